"""What one component reads and writes, and which tokens make it harmful."""

from surgery.microscope.directions import DIRECTIONS, SURE, random_directions, share_below
from surgery.microscope.logit_lens import Lens, logit_lens
from surgery.microscope.look import Look, Reading, Writing, look_inside
from surgery.microscope.read_tokens import read_tokens
from surgery.microscope.rows import MOST_ROWS, Subject, chosen_rows
from surgery.microscope.store import MOST_BYTES, load_look, look, look_file, save_look, stored_look
from surgery.microscope.token_pass import TokenPass, measure_tokens, refuse_experts

__all__ = [
    "DIRECTIONS",
    "MOST_BYTES",
    "MOST_ROWS",
    "SURE",
    "Lens",
    "Look",
    "Reading",
    "Subject",
    "TokenPass",
    "Writing",
    "chosen_rows",
    "load_look",
    "logit_lens",
    "look",
    "look_file",
    "look_inside",
    "measure_tokens",
    "random_directions",
    "read_tokens",
    "refuse_experts",
    "save_look",
    "share_below",
    "stored_look",
]
