"""Makes a conversation fit a context: the attempt is shortened first, the critique never.

A cut attempt still shows how the student thinks; a cut critique would explain half a mistake.
How to use: `attempt = fit_attempt(engine.chat, role, row["attempt"], lambda attempt: prompts.critique_messages(question, attempt))`.
"""

from collections.abc import Callable, Sequence

from cgd_ray.config import RoleConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message

TEMPLATE_TOKENS = 256  # more than any template's own
LEAST_ROOM_FRACTION = 8  # an answer gets at least an eighth of the context, or sampling.max_tokens if that is less


def fit_attempt(chat: Chat | None, role: RoleConfig, attempt: str, conversation: Callable[[str], Sequence[Message]]) -> str:
    """The attempt, without as much of its end as must go for the conversation and an answer to fit `role.context_length`.

    Where the rest alone is too long the attempt becomes empty, and the engine refuses the request. Endpoints whose tokenizer is not here
    get the attempt whole.
    """
    room = min(role.sampling.max_tokens, role.context_length // LEAST_ROOM_FRACTION)
    num_bytes = sum(len(message.content.encode("utf-8", "surrogatepass")) for message in conversation(attempt))
    if chat is None or num_bytes + TEMPLATE_TOKENS + room <= role.context_length:  # spares most rows a tokenisation
        return attempt
    excess = len(chat.prompt(conversation(attempt)).input_ids) + room - role.context_length
    return attempt if excess <= 0 else chat.without_end(attempt, excess)
