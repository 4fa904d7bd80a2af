"""Conversations in records, as `messages`, ShareGPT and TRL have them: their turns, and the rows that these make."""

from collections.abc import Mapping, Sequence
from typing import Any

from surgery.data.fields import whole
from surgery.data.rows import (
    NO_ANSWER,
    NO_PROMPT,
    NO_TURN,
    NOT_TEXT,
    ODD_ROLE,
    TOO_LONG,
    TOOLS,
    UNREADABLE,
    Message,
    Row,
    UnusableRow,
)

LAST, ALL = "last", "all"
TURNS = (LAST, ALL)
CONVERSATIONS = ("messages", "conversations", "conversation")  # the fields that have one
CONVERSATION_COLUMNS = (*CONVERSATIONS, "system", "tools", "tool_calls", "function_call", "functions")
_ROLES = {
    "system": "system",
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model"), "assistant"),
}
_MOST = 64 << 20  # of all rows of a conversation: characters and messages, which grow with the square of its turns
_TOOL_ROLES = {"tool", "function", "function_call", "tool_call", "tool_response", "observation", "ipython"}
_TOOL_FIELDS = ("tools", "tool_calls", "function_call", "functions")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_NO_TOOLS = "calibrate on conversations of text alone"
_REMEDY = "write its messages as {role, content} or {from, value} with the roles system, user and assistant"


def is_conversation(value: Any) -> bool:
    """Whether a value is a list of messages, each with a role and a content or ShareGPT's `from` and `value`."""
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(each, Mapping) and (each.get("role") or each.get("from")) for each in value)


def record_messages(record: Mapping[str, Any], name: str) -> list[Message]:
    """The conversation of a record under `name`, behind the system prompt that stands beside it, where one does.

    Raises `UnusableRow` for roles that are not known, tools, and what is no text.
    """
    _refuse_fields(record, _TOOL_FIELDS, TOOLS, "tools beside its messages")
    messages = messages_of(record[name], name)
    system = record.get("system")
    if isinstance(system, str) and system.strip() and messages[0].role != "system":
        return [Message("system", whole(system, "system")), *messages]
    return messages


def messages_of(value: Any, name: str) -> list[Message]:
    """The messages of a conversation, at least one; `name` is used in messages only. Raises `UnusableRow`."""
    if not is_conversation(value):
        raise UnusableRow(UNREADABLE, f"has no list of messages in {name!r}", _REMEDY)
    return [_message(each, name) for each in value]


def conversation_rows(messages: Sequence[Message], turns: str, first: int = 0) -> list[Row]:
    """The rows of a conversation: its last answer with all before it, or one for every answer.

    messages: in order; those after the last answer are no part of any row.
    turns: `last` or `all`.
    first: the answers before this message are not asked for.

    An answer needs a user's turn before it. Raises `UnusableRow` for a conversation without such an answer, for
    one where the answer or all before it is blank, and for one of more answers than fit.
    """
    user = next((at for at, each in enumerate(messages) if each.role == "user"), len(messages))
    answers = [at for at, each in enumerate(messages) if each.role == "assistant" and at > user and at >= first]
    if not answers:
        raise UnusableRow(NO_TURN, "has no turn of the assistant after one of the user", _REMEDY)
    if turns == ALL and sum(answers) + _characters(messages) * len(answers) > _MOST:
        raise UnusableRow(
            TOO_LONG, f"has {len(answers):,} answers, each with all before it", "take the last alone"
        )
    rows = [Row.of(messages[: at + 1]) for at in (answers if turns == ALL else answers[-1:])]
    for row in rows:
        if not row.prompt.strip() or not row.answer.strip():
            reason = NO_ANSWER if row.prompt.strip() else NO_PROMPT
            raise UnusableRow(reason, f"has a turn with an {reason}", "leave the turn out, or fill it")
    return rows


def _characters(messages: Sequence[Message]) -> int:
    return sum(len(message.content) for message in messages)


def _message(message: Mapping[str, Any], name: str) -> Message:
    _refuse_fields(message, _TOOL_FIELDS, TOOLS, f"a tool call in {name!r}")
    _refuse_fields(message, _THOUGHTS, NOT_TEXT, f"a thought apart from its text in {name!r}")
    role = message.get("role") or message.get("from")
    if not isinstance(role, str) or role not in _ROLES:
        if isinstance(role, str) and role in _TOOL_ROLES:
            raise UnusableRow(TOOLS, f"has a tool's turn in {name!r}", _NO_TOOLS)
        raise UnusableRow(ODD_ROLE, f"has the role {str(role)[:40]!r} in {name!r}", _REMEDY)
    content = message.get("content")
    return Message(_ROLES[role], _content(message.get("value") if content is None else content, name))


def _content(content: Any, name: str) -> str:
    """The text of a message, which may be a list of parts that are all text."""
    parts = content if isinstance(content, list) else [content]
    found = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    texts = [text for text in found if isinstance(text, str)]
    if len(texts) < len(found):
        raise UnusableRow(
            NOT_TEXT, f"has a message that is no text in {name!r}", "leave out images and other parts"
        )
    return whole("".join(texts), name)


def _refuse_fields(record: Mapping[str, Any], names: Sequence[str], reason: str, what: str) -> None:
    for name in names:
        if not _is_empty(record.get(name)):
            raise UnusableRow(reason, f"has {what} ({name!r})", _NO_TOOLS)


def _is_empty(value: Any) -> bool:
    """Whether a field says nothing: columns give every record the fields of every other, without values."""
    if isinstance(value, Mapping):
        return all(_is_empty(inner) for inner in value.values())
    return value in (None, "", "[]", "{}", [])
