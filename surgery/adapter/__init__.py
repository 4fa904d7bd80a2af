"""Open a PEFT LoRA adapter, or refuse it."""

from surgery.adapter.adalora import kept_triplets
from surgery.adapter.adapter import Adapter, open_adapter, refuse_changed
from surgery.adapter.below import adapters_below, in_order
from surgery.adapter.config_file import CONFIG_FILE, read_config
from surgery.adapter.conversions import CONVERTIBLE, FROM_BASE, FROM_INITIAL, FROM_RESIDUAL, ways_from
from surgery.adapter.experts import expert_of, experts_of, of_one_expert
from surgery.adapter.factors import Factors
from surgery.adapter.from_hub import fetched_adapter, pinned_source
from surgery.adapter.location import adapter_folder
from surgery.adapter.lora_config import LARGEST_ALPHA, LoraRules, initialisation, refuse_unsupported
from surgery.adapter.module_paths import layers_of
from surgery.adapter.module_roles import RESIDUAL, role_of
from surgery.adapter.naming import adapter_source
from surgery.adapter.peft_names import PREFIX
from surgery.adapter.safetensors_file import same_bytes
from surgery.adapter.scope import SCOPES, check_scope, in_scope, modules_in, scope_for, scope_note
from surgery.adapter.site import ConvSite, EmbeddingSite, FlatSite, ParameterSite, Site, float64
from surgery.adapter.task import CAUSAL_LM, SEQ_2_SEQ_LM, SEQ_CLS, TASKS, TOKEN_CLS, task_of
from surgery.adapter.tensor_names import LORA_BIAS, TRAINED_TOKENS, TRAINING_ONLY, module_path
from surgery.adapter.tokenizer_files import TOKENIZER_FILES, TokenizerFiles
from surgery.adapter.weights import WEIGHTS_FILE, all_finite, read_tensors, read_weights
from surgery.adapter.zip_upload import unpack_adapter

__all__ = [
    "CAUSAL_LM",
    "CONFIG_FILE",
    "CONVERTIBLE",
    "FROM_BASE",
    "FROM_INITIAL",
    "FROM_RESIDUAL",
    "LARGEST_ALPHA",
    "LORA_BIAS",
    "PREFIX",
    "RESIDUAL",
    "SCOPES",
    "SEQ_2_SEQ_LM",
    "SEQ_CLS",
    "TASKS",
    "TOKENIZER_FILES",
    "TOKEN_CLS",
    "TRAINED_TOKENS",
    "TRAINING_ONLY",
    "WEIGHTS_FILE",
    "Adapter",
    "ConvSite",
    "EmbeddingSite",
    "Factors",
    "FlatSite",
    "LoraRules",
    "ParameterSite",
    "Site",
    "TokenizerFiles",
    "adapter_folder",
    "adapter_source",
    "adapters_below",
    "all_finite",
    "check_scope",
    "expert_of",
    "experts_of",
    "fetched_adapter",
    "float64",
    "in_order",
    "in_scope",
    "initialisation",
    "kept_triplets",
    "layers_of",
    "module_path",
    "modules_in",
    "of_one_expert",
    "open_adapter",
    "pinned_source",
    "read_config",
    "read_tensors",
    "read_weights",
    "refuse_changed",
    "refuse_unsupported",
    "role_of",
    "same_bytes",
    "scope_for",
    "scope_note",
    "task_of",
    "unpack_adapter",
    "ways_from",
]
