"""How a model decodes, in the words of vLLM's SamplingParams where it has one for it."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from cgd_ray.config.base import Added, Count, Fraction, Settings


class SamplingConfig(Settings):
    """How one role decodes."""

    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Nucleus sampling mass."""
    top_k: Count | None = None
    """Sample among the k likeliest tokens; null considers all."""
    max_tokens: Count = 1024
    """Longest generation in tokens; a longer one is cut and never learnt, though an attempt may be corrected (selection.cut_attempts)."""
    seed: int = 0
    """Base seed; each row's own seed is derived from it, the row's record_id and the stage."""
    stop: tuple[str, ...] = ()
    """Strings that end a generation."""
    stop_token_ids: Annotated[tuple[int, ...], Added()] = ()
    """Tokens that end a generation, besides the one that ends a turn in the chat template."""
    seed_per_request: Annotated[bool | None, Added()] = None
    """Draw each generation from its row's own seed. On GPUs that takes vLLM a kernel per request and its fast sampler away, and repeats no
    text where requests share other batches; null does so on CPUs and for endpoints only, where it costs nothing."""
    min_p: Annotated[Fraction, Added()] = 0.0
    """Sample only among tokens that are at least so likely as this share of the likeliest one's probability."""
    repetition_penalty: Annotated[float, Field(gt=0.0), Added()] = 1.0
    """Above 1 makes tokens of the prompt and of the text so far less likely."""
    presence_penalty: Annotated[float, Field(ge=-2.0, le=2.0), Added()] = 0.0
    """Above 0 makes tokens that the text has already less likely."""
    frequency_penalty: Annotated[float, Field(ge=-2.0, le=2.0), Added()] = 0.0
    """The same, the more so the more often it has them."""
    min_tokens: Annotated[int, Field(ge=0), Added()] = 0
    """Tokens before which nothing ends a generation."""
    logit_bias: Annotated[Mapping[int, float], Added()] = Field(default_factory=dict)
    """Added to the logits of tokens, by id, e.g. {151667: -100}."""
    stop_repetition: Annotated[Annotated[int, Field(ge=32)] | None, Added()] = 256
    """Tokens at the end of a generation that are one pattern, three times at least, after which it is ended as repeating itself; null lets
    it run into its limit. In 3,745 texts of MATH-500, GSM8K and AMC the longest such stretch is 48 words, digits and signs: tables, zeros
    and periodic decimals stay. Only engines of our own are looked into; an endpoint's answer goes on to its end."""
    extra: Annotated[Mapping[str, Any], Added()] = Field(default_factory=dict)
    """Further fields of vLLM's SamplingParams, passed through, e.g. {bad_words: [Hmm]}. Those that other settings decide are refused; an
    endpoint has `api.request_fields`."""

    @model_validator(mode="after")
    def _fields_have_one_owner(self) -> "SamplingConfig":
        for name in self.extra:
            remedy = OWNED_SAMPLING.get(name, f"set sampling.{name} instead" if name in type(self).model_fields else None)
            if remedy is not None:
                raise ValueError(f"extra.{name} is {self.extra[name]!r}; {remedy}")
        return self

    @model_validator(mode="after")
    def _least_is_below_most(self) -> "SamplingConfig":
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} exceeds max_tokens {self.max_tokens}; lower it")
        return self


OWNED_SAMPLING = {
    "n": "set generation.num_samples instead",
    **dict.fromkeys(
        ("detokenize", "include_stop_str_in_output", "output_kind", "skip_special_tokens", "stream_interval"),
        "it follows from how answers are read here: remove it",
    ),
}
"""Fields of vLLM's SamplingParams, besides those of SamplingConfig, that are not the user's to set, and what to do instead."""
