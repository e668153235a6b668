"""Makes a conversation fit a context: the attempt is shortened first, the critique never.

A cut attempt still shows how the student thinks; a cut critique would explain half a mistake. The cut is decided once, before the critique
is written, for the longer of the teacher's two conversations: critique and refinement see the same attempt.
How to use: `attempt = fit_attempt(engine.chat, role, row["attempt"], lambda shown: prompts.refine_messages(question, shown, ""))`.
"""

from collections.abc import Callable, Sequence

from cgd_ray.config import RoleConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message

TEMPLATE_TOKENS = 256  # more than any template's own
NUM_ANSWERS = 2  # the critique and the refinement
LEAST_ROOM_FRACTION = 4  # each of them gets at least a quarter of the context, or sampling.max_tokens if that is less


def fit_attempt(chat: Chat | None, role: RoleConfig, attempt: str, conversation: Callable[[str], Sequence[Message]]) -> str:
    """The attempt, without as much of its end as must go for a conversation and both answers to fit `role.context_length`.

    `conversation` is the longer one, around an attempt and an empty critique. Where the rest alone is too long the attempt becomes empty,
    and the engine refuses the request if need be. Endpoints whose tokenizer is not here get the attempt whole.
    """
    room = role.context_length - NUM_ANSWERS * min(role.sampling.max_tokens, role.context_length // LEAST_ROOM_FRACTION)
    num_bytes = sum(len(message.content.encode("utf-8", "surrogatepass")) for message in conversation(attempt))
    if chat is None or num_bytes + TEMPLATE_TOKENS <= room:  # spares most rows a tokenisation
        return attempt
    shown, num_cut = attempt, 0
    while shown and (excess := len(chat.prompt(conversation(shown)).input_ids) - room) > 0:
        num_cut += excess  # again where the cut text has other tokens at its end
        shown = chat.without_end(attempt, num_cut)
    return shown
