"""How Ray Data runs a generation's actor pools: close together, in little memory, and as large as there is work for."""
