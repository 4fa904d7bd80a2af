"""Open a PEFT LoRA adapter, or refuse it."""

from surgery.adapter.adapter import Adapter, Factors, adapter_folder, open_adapter, refuse_changed
from surgery.adapter.lora_config import CONFIG_FILE, LoraRules
from surgery.adapter.module_paths import layers_of
from surgery.adapter.module_roles import RESIDUAL, role_of
from surgery.adapter.scope import SCOPES, check_scope, in_scope, modules_in, scope_for, scope_note
from surgery.adapter.site import ConvSite, EmbeddingSite, ParameterSite, Site, float64
from surgery.adapter.tensor_names import LORA_BIAS, TRAINING_ONLY, module_path
from surgery.adapter.tokenizer_files import TOKENIZER_FILES, TokenizerFiles
from surgery.adapter.weights import WEIGHTS_FILE, read_weights
from surgery.adapter.zip_upload import unpack_adapter

__all__ = [
    "CONFIG_FILE",
    "LORA_BIAS",
    "RESIDUAL",
    "SCOPES",
    "TOKENIZER_FILES",
    "TRAINING_ONLY",
    "WEIGHTS_FILE",
    "Adapter",
    "ConvSite",
    "EmbeddingSite",
    "Factors",
    "LoraRules",
    "ParameterSite",
    "Site",
    "TokenizerFiles",
    "adapter_folder",
    "check_scope",
    "float64",
    "in_scope",
    "layers_of",
    "module_path",
    "modules_in",
    "open_adapter",
    "read_weights",
    "refuse_changed",
    "role_of",
    "scope_for",
    "scope_note",
    "unpack_adapter",
]
