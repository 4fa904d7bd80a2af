"""Tiny sequence-to-sequence models of several families with tokenizers of their kinds, and plain forwards of one row."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    BartConfig,
    BartForCausalLM,
    BartForConditionalGeneration,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    NllbTokenizer,
    PegasusConfig,
    PegasusForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from surgery.data import Example
from tests.helpers.models import save_adapter, save_model, tiny_tokenizer

ENGLISH, FRENCH = "eng_Latn", "fra_Latn"
_PIECES = ["▁", *"abcdefghijklmnopqrstuvwxyz0123456789+=?.,:"]
_VOCABULARY = 96
_BART = {
    "vocab_size": _VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "init_std": 0.3,
}


@dataclass(frozen=True)
class Kind:
    """A family: its model and tokenizer, and the modules that an adapter trains, in the encoder and the decoder."""

    make: Callable[[], Any]
    tokenizer: Callable[[], Any]
    targets: tuple[str, ...]

    def __call__(self, seed: int = 0) -> Any:
        torch.manual_seed(seed)
        return self.make().requires_grad_(False).eval()

    def save(self, folder: Path, model: Any = None, **adapter: Any) -> tuple[Path, Path]:
        """Folders of a base model, as transformers writes it, and of an adapter on it, as PEFT does."""
        model = self() if model is None else model
        base = save_model(model, folder / "base", self.tokenizer())
        settings = {"targets": self.targets, "task_type": "SEQ_2_SEQ_LM", **adapter}
        return base, save_adapter(model, folder / "adapter", **settings)


def t5_tokenizer() -> T5Tokenizer:
    """`</s>` after every text, as T5 has it."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -2.0) for piece in _PIECES)]
    return T5Tokenizer(vocab=pieces, extra_ids=4)


def nllb_tokenizer(kind: type[NllbTokenizer] = NllbTokenizer, **settings: Any) -> NllbTokenizer:
    """The language's code before every text and `</s>` after it."""
    vocabulary = {piece: i for i, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *_PIECES])}
    languages = {"src_lang": ENGLISH, "tgt_lang": FRENCH, **settings}
    return kind(vocab=vocabulary, merges=[], additional_special_tokens=[ENGLISH, FRENCH], **languages)


def mbart_tokenizer() -> MBartTokenizer:
    """`</s>` and the language's code after every text."""
    pieces = [(piece, 0.0) for piece in ("<s>", "<pad>", "</s>", "<unk>")] + [(piece, -2.0) for piece in _PIECES]
    return MBartTokenizer(vocab=pieces, src_lang="en_XX", tgt_lang="ro_RO")


def _t5(**changes: Any) -> T5ForConditionalGeneration:
    settings = {
        "vocab_size": _VOCABULARY,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 2,
        "num_heads": 4,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "tie_word_embeddings": False,
    }
    return T5ForConditionalGeneration(T5Config(**{**settings, **changes}))


def _flan() -> T5ForConditionalGeneration:
    return _t5(feed_forward_proj="gated-gelu")


def _bart() -> BartForConditionalGeneration:
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3, "decoder_start_token_id": 2}
    model = BartForConditionalGeneration(BartConfig(**_BART, **ids))
    model.generation_config.forced_bos_token_id = 1
    model.generation_config.forced_eos_token_id = None
    return model


def _fairseq(model: Any, config: Any, **more: Any) -> Any:
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    made = model(config(**{**_BART, **ids, **more}))
    made.generation_config.forced_eos_token_id = None
    return made


def _m2m() -> M2M100ForConditionalGeneration:
    return _fairseq(M2M100ForConditionalGeneration, M2M100Config, decoder_start_token_id=2)


def _mbart() -> MBartForConditionalGeneration:
    start = mbart_tokenizer().convert_tokens_to_ids("ro_RO")
    return _fairseq(MBartForConditionalGeneration, MBartConfig, decoder_start_token_id=start)


def _pegasus() -> PegasusForConditionalGeneration:
    ids = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "bos_token_id": None}
    model = PegasusForConditionalGeneration(PegasusConfig(**_BART, **ids))
    model.generation_config.forced_eos_token_id = None
    return model


_OF_BART = ("q_proj", "v_proj", "out_proj", "fc2")
KINDS = {
    "t5": Kind(_t5, t5_tokenizer, ("q", "v", "o", "wo")),
    "flan": Kind(_flan, t5_tokenizer, ("q", "v", "wi_0", "wo")),
    "bart": Kind(_bart, lambda: tiny_tokenizer(append_eos=True), _OF_BART),
    "m2m": Kind(_m2m, nllb_tokenizer, _OF_BART),
    "mbart": Kind(_mbart, mbart_tokenizer, _OF_BART),
    "pegasus": Kind(_pegasus, t5_tokenizer, _OF_BART),
}


def base_of_two_tasks(folder: Path) -> tuple[Path, dict[str, Path]]:
    """A BART that loads as a causal language model too, its decoder alone, and an adapter for each task."""
    base, of_both = KINDS["bart"].save(folder)
    file = base / "model.safetensors"
    tensors = load_file(file)
    tables = ("lm_head.weight", "model.decoder.embed_tokens.weight")
    save_file({**tensors, **{name: tensors["model.shared.weight"].clone() for name in tables}}, file)
    decoder = BartForCausalLM.from_pretrained(base)
    targets = r"model\.decoder\.layers\.\d+\.self_attn\.v_proj"
    of_decoder = folder / "decoder"
    get_peft_model(decoder, LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM")).save_pretrained(
        of_decoder
    )
    return base, {"SEQ_2_SEQ_LM": of_both, "CAUSAL_LM": of_decoder}


def pair_loss(model: Any, example: Example) -> torch.Tensor:
    """Mean label loss of one example alone as the model itself computes it: no padding, its own shift."""
    loss: torch.Tensor = model(
        input_ids=torch.tensor([example.prompt_ids]), labels=torch.tensor([example.answer_ids]), use_cache=False
    ).loss
    return loss


def greedy_answer(model: Any, example: Example, limit: int, **settings: Any) -> list[int]:
    """What `generate` writes greedily for one prompt, without the decoder's start and the end of sequence."""
    prompt = torch.tensor([example.prompt_ids])
    with torch.no_grad():
        ids = model.generate(input_ids=prompt, max_new_tokens=limit, do_sample=False, num_beams=1, **settings)
    written: list[int] = ids[0, 1:].tolist()
    ends = model.generation_config.eos_token_id
    return written[: written.index(ends)] if ends in written else written
