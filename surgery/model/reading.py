"""Rows of a batch that were read and are gone on with: their next tokens, and the losses of answers of their own."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surgery.data import IGNORED
from surgery.model.loss import mean_answer_loss


class Reading:
    """Rows that were read, with the logits of their next token."""

    _next: Float[Tensor, "row vocabulary"]

    @property
    def following(self) -> Float[Tensor, "row vocabulary"]:
        """Logits of the next token of every row."""
        return self._next

    @property
    def chosen(self) -> list[int]:
        """The most likely next token of every row; of equals the first."""
        tokens: list[int] = self.following.argmax(dim=-1).tolist()
        return tokens


class Scorable(Reading):
    """Rows whose own answers are scored from where they stand."""

    _ids: Int[Tensor, "row token"]

    def answer_logits(self, answers: Sequence[Sequence[int]]) -> Float[Tensor, "row token vocabulary"]:
        """Logits before each token of each row's own answer, after the longest's length. The state stays."""
        raise NotImplementedError

    @torch.inference_mode()
    def answer_losses(self, answers: Sequence[Sequence[int]]) -> list[float]:
        """Mean cross-entropy of each row's own answer, teacher-forced, in nats per token. The state stays."""
        labels = self._labels(answers)
        losses: list[float] = mean_answer_loss(self.answer_logits(answers), labels).double().tolist()
        return losses

    def _labels(self, answers: Sequence[Sequence[int]]) -> Int[Tensor, "row token"]:
        width = max(len(answer) for answer in answers)
        filled = [[*answer, *[IGNORED] * (width - len(answer))] for answer in answers]
        return torch.tensor(filled, device=self._ids.device)
