"""The model under training: attention, loss, adapters, DeepSpeed ZeRO."""
