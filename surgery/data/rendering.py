"""A conversation as a tokenizer's chat template writes it: the prompt, the whole, and where the answer's turn ends.

Training libraries tokenise the whole rendering at once, so what the template puts around an answer decides its ids:
a line feed before it, a thought that is left empty, the end of turn after it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from surgery.data.encoding import DATE, TEMPLATES, Encoding
from surgery.data.rows import Message
from surgery.errors import DataError
from surgery.files import read_limited, user_path

TEMPLATE_FILE = ".jinja"
_MOST_TEMPLATE = 1 << 20  # bytes
_WITHOUT_TEMPLATE = (
    "use the plain template (--template plain), or a template file of your own (--template FILE.jinja)"
)
# what the rendering itself sets
_RENDERING = frozenset(
    ["messages", "conversation", "chat_template", "tokenize", "add_generation_prompt", "continue_final_message"]
)
_READS_CLOCK = re.compile(r"""\bstrftime_now\s*\(\s*(["'])(.*?)\1\s*\)""")
_CLOCK = re.compile(r"\bstrftime_now\b|\bdate_string\b")


@dataclass(frozen=True)
class Rendering:
    """A conversation whose last message is an answer, as text.

    prompt: everything before the answer, rendered with the prompt for the next turn.
    whole: everything; `whole[:end]` ends with the answer's end of turn, or goes as far as the template writes.
    content_end: where the answer itself ends in `whole`.
    stop: text of the end of turn, empty where the template writes none.
    """

    prompt: str
    whole: str
    content_end: int
    end: int
    stop: str


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template ready for many conversations.

    tokenizer: applies it.
    text: its source, with the pinned day where it reads the clock.
    arguments: what it is given beside the messages.
    system: the system prompt of conversations that have none.
    ends: texts that may end a turn as one token, those that are looked for first before the others.
    """

    tokenizer: Any
    text: str
    arguments: Mapping[str, Any]
    system: str
    ends: tuple[frozenset[str], ...]

    def apply(self, messages: Sequence[Message], *, open_turn: bool = False) -> str:
        """Messages as the template writes them; `open_turn` begins the assistant's next turn.

        Raises `DataError` where it refuses them.
        """
        has_own = bool(messages) and messages[0].role == "system"
        turns = [*([Message("system", self.system)] if self.system and not has_own else []), *messages]
        try:
            text: str = self.tokenizer.apply_chat_template(
                [{"role": turn.role, "content": turn.content} for turn in turns],
                chat_template=self.text,
                add_generation_prompt=open_turn,
                tokenize=False,
                **self.arguments,
            )
        except Exception as error:  # a template is a program of the model's, free to raise anything
            raise DataError(
                f"the chat template refuses {_shape(turns)} ({str(error)[:120]})", _WITHOUT_TEMPLATE
            ) from error
        return text

    def render(self, messages: Sequence[Message]) -> Rendering:
        """The rendering of a conversation whose last message is an answer; raises `DataError` where it is refused."""
        *before, answer = messages
        text = self._rendered(before, answer)
        bare = answer.content.rstrip().removesuffix(text.stop)
        # an answer that brings its own end has one end, not two
        return (
            text
            if len(bare) == len(answer.content.rstrip())
            else self._rendered(before, Message(answer.role, bare))
        )

    def _rendered(self, before: Sequence[Message], answer: Message) -> Rendering:
        whole = self.apply([*before, answer])
        # whatever the template does to an answer, what follows it does not depend on its last character
        other = Message(answer.role, "b" if answer.content.rstrip().endswith("a") else "a")
        tail = _common_end(whole, self.apply([*before, other]))
        content_end = len(whole) - len(tail)
        stop, end = self._end_of_turn(tail)
        return Rendering(self.apply(before, open_turn=True), whole, content_end, content_end + end, stop)

    def _end_of_turn(self, tail: str) -> tuple[str, int]:
        """The end of turn in what follows an answer, and where it ends there.

        It is the first of the tokenizer's special tokens there, or else of its added ones; a template that writes its
        end as plain text is taken to its last character, as it is tokenised in training.
        """
        for tokens in self.ends:
            found = [(tail.find(token), -len(token), token) for token in tokens if token in tail]
            if found:
                begin, _, token = min(found)
                return token, begin + len(token)
        return tail.strip(), len(tail)


def chat_template(tokenizer: Any, encoding: Encoding) -> ChatTemplate:
    """The chat template of an encoding; raises `DataError` where there is none or its settings cannot be read."""
    day, text = parse_date(encoding.date), template_of(tokenizer, encoding)
    dated = {"date_string": day.strftime("%d %b %Y")} if "date_string" in text else {}
    arguments = {**dated, **template_arguments(encoding.template_args)}
    ends = frozenset(markers(tokenizer)), frozenset(markers(tokenizer, special=False))
    return ChatTemplate(tokenizer, _at(day, text), arguments, encoding.system, ends)


def template_of(tokenizer: Any, encoding: Encoding) -> str:
    """The text of the chat template that an encoding uses; raises `DataError` where there is none."""
    if encoding.template.endswith(TEMPLATE_FILE):
        try:
            return read_limited(user_path(encoding.template, DataError), _MOST_TEMPLATE).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"no readable template at {encoding.template!r}", "name a UTF-8 file with a Jinja template"
            ) from error
    if encoding.template not in TEMPLATES:
        raise DataError(
            f"template {encoding.template!r} is not known",
            f"use one of {', '.join(TEMPLATES)}, or name a {TEMPLATE_FILE} file",
        )
    if not getattr(tokenizer, "chat_template", None):
        raise DataError("the tokenizer has no chat template", _WITHOUT_TEMPLATE)
    try:
        found: str = tokenizer.get_chat_template()
    except ValueError as error:  # several, none of them the default
        raise DataError(
            f"the tokenizer has several chat templates and no default ({str(error)[:120]})",
            "name a template file of your own (--template FILE.jinja)",
        ) from error
    return found


def template_arguments(text: str) -> dict[str, Any]:
    """The arguments of a chat template from their JSON text; raises `DataError` for anything but an object."""
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict) or _RENDERING & arguments.keys():
        raise DataError(
            f"{text[:60]!r} are no template arguments", 'write a JSON object, as {"enable_thinking": false}'
        )
    return arguments


def prints_date(tokenizer: Any, encoding: Encoding) -> bool:
    """Whether the template reads the clock, so that its date has to be pinned."""
    return encoding.template != "plain" and _CLOCK.search(template_of(tokenizer, encoding)) is not None


def parse_date(text: str) -> date:
    """A day written as ISO 8601; raises `DataError`."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise DataError(f"{text[:40]!r} is no date", f"write it as {DATE}") from None


def _at(day: date, template: str) -> str:
    """The template with the pinned day where it reads the clock."""
    pinned = _READS_CLOCK.sub(lambda match: repr(day.strftime(match[2])), template)
    if re.search(r"\bstrftime_now\s*\(", pinned):
        raise DataError(
            "the chat template prints a time in a form that is worked out while it runs, so it cannot be pinned",
            "write the day into a template file of your own (--template FILE.jinja)",
        )
    return pinned


def markers(tokenizer: Any, *, special: bool = True) -> dict[str, int]:
    """Texts that a tokenizer reads as one token whatever stands around them, such as an end of turn, with its id.

    special: those that decoding leaves out; otherwise all that were added to the vocabulary, words as well.

    White space, which some vocabularies add in runs, is none of them, nor is what stands for unknown text.
    """
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    known = {str(token): number for number, token in added.items() if not special or token.special}
    for token in getattr(tokenizer, "all_special_tokens", ()):
        known[token] = tokenizer.convert_tokens_to_ids(token)
    unknown = getattr(tokenizer, "unk_token", None)
    return {
        token: int(number)
        for token, number in known.items()
        if token.strip().strip("\u2581") and token != unknown and number is not None
    }


def _common_end(one: str, other: str) -> str:
    """The longest text that both end with."""
    length = 0
    for mine, theirs in zip(reversed(one), reversed(other), strict=False):
        if mine != theirs:
            break
        length += 1
    return one[len(one) - length :]


def _shape(messages: Sequence[Message]) -> str:
    roles = [message.role for message in messages]
    return (
        "a single user turn" if roles[:1] == ["user"] and len(roles) <= 2 else f"the turns {', '.join(roles[:6])}"
    )
