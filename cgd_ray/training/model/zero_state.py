"""Where DeepSpeed keeps this rank's share of the fp32 weights and AdamW moments, as ranges of named parameters.

Each way in which DeepSpeed wraps AdamW is one Layout: how to find the ranges, and how to bring the model in line after they were
loaded. Saved by these names, the state fits any number of workers and any ZeRO stage.
How to use: `state = ZeroState(layout, deepspeed_optimizer, adamw, named_parameters)`; `state.snapshot()`, `state.load(read, step, meet)`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

MOMENTS = ("exp_avg", "exp_avg_sq")

Parameters = Mapping[str, torch.nn.Parameter]


class Range(NamedTuple):
    """Names a saved range of a flattened parameter."""

    kind: str
    """`weight` or one of MOMENTS."""
    start: int
    """Its first element."""
    name: str
    """The parameter's."""


ReadRange = Callable[[str, str, int, int], torch.Tensor]
"""(kind, name, start, numel) -> elements [start, start + numel) of the flattened parameter, whoever has saved them."""


@dataclass(frozen=True, kw_only=True)
class Fragment:
    """A range of one parameter that this rank updates: elements [start, start + numel), found in `flat` from `offset` on."""

    name: str
    start: int
    numel: int
    flat: torch.Tensor
    """What AdamW steps: many parameters' ranges one after the other, or one parameter."""
    offset: int

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """This range of `flat`, or of a moment of the same shape."""
        return tensor.detach().view(-1).narrow(0, self.offset, self.numel)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One of DeepSpeed's wrappers around AdamW."""

    find: Callable[[Any, Parameters], Iterator[Fragment]]
    refresh: Callable[[Any], None]
    """Make the model's weights those that were loaded; a collective."""
    is_replicated: bool
    """Every rank holds everything."""


class ZeroState:
    """This rank's live training state; nothing is copied until a snapshot is asked for."""

    def __init__(self, layout: Layout, wrapper: Any, adamw: torch.optim.Optimizer, parameters: Parameters) -> None:
        self._layout, self._wrapper, self._adamw = layout, wrapper, adamw
        self._fragments = list(layout.find(wrapper, parameters))

    def snapshot(self) -> dict[Range, torch.Tensor]:
        """Copies on the CPU of what this rank has to save; of what all ranks hold, each saves a part."""
        mine = self._fragments[dist.get_rank() :: dist.get_world_size()] if self._layout.is_replicated else self._fragments
        return {
            Range(kind, fragment.start, fragment.name): fragment.of(tensor).to("cpu", copy=True)
            for fragment in mine
            for kind, tensor in self._tensors(fragment)
        }

    def load(self, read: ReadRange, step: int, meet: Callable[[], None]) -> None:
        """Restore the state after `step` optimizer steps; a collective. `meet` waits for all ranks, whose reading may take long."""
        for flat in {id(fragment.flat): fragment.flat for fragment in self._fragments}.values():
            # As AdamW's fused implementation makes it on its first step.
            moments = {name: torch.zeros_like(flat, requires_grad=False) for name in MOMENTS}
            self._adamw.state[flat] = {"step": torch.tensor(float(step), device=flat.device), **moments}
        for fragment in self._fragments:
            for kind, tensor in self._tensors(fragment):
                fragment.of(tensor).copy_(read(kind, fragment.name, fragment.start, fragment.numel))
        meet()
        self._layout.refresh(self._wrapper)

    def _tensors(self, fragment: Fragment) -> Iterator[tuple[str, torch.Tensor]]:
        yield "weight", fragment.flat
        for name in MOMENTS:
            yield name, self._adamw.state[fragment.flat][name]


def _find_parameters(wrapper: Any, parameters: Parameters) -> Iterator[Fragment]:
    for name, parameter in parameters.items():
        yield Fragment(name=name, start=0, numel=parameter.numel(), flat=parameter, offset=0)


def _find_copies(wrapper: Any, parameters: Parameters) -> Iterator[Fragment]:
    copies = {
        id(parameter): copy
        for originals, group in zip(wrapper.fp16_groups, wrapper.fp32_groups, strict=True)
        for parameter, copy in zip(originals, group, strict=True)
    }
    for name, parameter in parameters.items():
        yield Fragment(name=name, start=0, numel=parameter.numel(), flat=copies[id(parameter)], offset=0)


def _refresh_from_copies(wrapper: Any) -> None:
    for originals, copies in zip(wrapper.fp16_groups, wrapper.fp32_groups, strict=True):
        for parameter, copy in zip(originals, copies, strict=True):
            parameter.data.copy_(copy.data)


def _find_partitions(wrapper: Any, parameters: Parameters) -> Iterator[Fragment]:
    """ZeRO 1 and 2: all parameters of a group end to end, cut into one piece a rank."""
    flats = getattr(wrapper, "single_partition_of_fp32_groups", None) or wrapper.fp32_groups_flat_partition
    for name, parameter in parameters.items():
        if (mapping := parameter._hp_mapping) is not None:  # None: wholly on other ranks
            yield Fragment(
                name=name,
                start=mapping.lp_fragment_address.start,
                numel=mapping.lp_fragment_address.numel,
                flat=flats[mapping.param_group_index],
                offset=mapping.hp_fragment_address.start,
            )


def _find_shards(wrapper: Any, parameters: Parameters) -> Iterator[Fragment]:
    """ZeRO 3: each parameter cut into one piece a rank, the last ones padded or empty."""
    for name, parameter in parameters.items():
        group, offset, numel = wrapper.grad_position[wrapper.get_param_id(parameter)]
        start = dist.get_rank() * numel
        if (numel := min(numel, parameter.ds_numel - start)) > 0:
            yield Fragment(name=name, start=start, numel=numel, flat=wrapper.fp32_partitioned_groups_flat[group], offset=offset)


def _refresh_shards(wrapper: Any) -> None:
    """What DeepSpeed does after loading a checkpoint of its own."""
    wrapper.checkpoint_event_prologue()
    for group, masters in enumerate(wrapper.fp32_partitioned_groups_flat):
        if masters.numel():
            wrapper.fp16_partitioned_groups_flat[group].data.copy_(masters.data)
        pieces = wrapper.unflatten(wrapper.fp16_partitioned_groups_flat[group], wrapper.fp16_partitioned_groups[group])
        for parameter, piece in zip(wrapper.fp16_partitioned_groups[group], pieces, strict=True):
            parameter.data = piece.data
    if wrapper.persistent_parameters:
        wrapper.persistent_parameters[0].partition(wrapper.persistent_parameters)
    wrapper.checkpoint_event_epilogue()


def _is_up_to_date(wrapper: Any) -> None:
    """AdamW steps the model's own parameters."""


PARAMETERS = Layout(find=_find_parameters, refresh=_is_up_to_date, is_replicated=True)
COPIES = Layout(find=_find_copies, refresh=_refresh_from_copies, is_replicated=True)
PARTITIONS = Layout(find=_find_partitions, refresh=lambda wrapper: wrapper.update_lp_params(), is_replicated=False)
SHARDS = Layout(find=_find_shards, refresh=_refresh_shards, is_replicated=False)
