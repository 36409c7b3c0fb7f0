"""config.json of well-known checkpoints as the hub has them, other than their sizes; from memory, some lines fewer."""

SIZES = {"vocab_size": 2048, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
         "num_attention_heads": 4}  # fmt: skip
HUB = {
    "SmolLM2": SIZES | {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "is_llama_config": True, "max_position_embeddings": 8192, "model_type": "llama",
        "num_key_value_heads": 2, "pad_token_id": 2, "rms_norm_eps": 1e-05, "rope_interleaved": False,
        "rope_scaling": None, "rope_theta": 100000, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}},
    },
    "Llama3.1": SIZES | {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": 128000, "eos_token_id":
        [128001, 128008, 128009], "hidden_act": "silu", "max_position_embeddings": 131072, "model_type":
        "llama", "num_key_value_heads": 2, "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, "rope_type":
        "llama3"}, "rope_theta": 500000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    },
    "Llama3.2": SIZES | {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": 128000, "eos_token_id":
        [128001, 128008, 128009], "hidden_act": "silu", "max_position_embeddings": 131072, "model_type":
        "llama", "num_key_value_heads": 2, "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 32.0,
        "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type":
        "llama3"}, "rope_theta": 500000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "head_dim":
        16,
    },
    "TinyLlama-old": SIZES | {
        "architectures": ["LlamaForCausalLM"], "bos_token_id": 0, "eos_token_id": 1, "hidden_act": "silu",
        "max_sequence_length": 2048, "max_position_embeddings": 2048, "model_type": "llama", "pad_token_id":
        -1, "rms_norm_eps": 1e-06, "torch_dtype": "float16",
    },
    "Mistral0.1": SIZES | {
        "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "max_position_embeddings": 32768, "model_type": "mistral", "num_key_value_heads": 2, "rms_norm_eps":
        1e-05, "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False, "torch_dtype":
        "bfloat16",
    },
    "Mistral0.3": SIZES | {
        "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "max_position_embeddings": 32768, "model_type": "mistral", "num_key_value_heads": 2, "rms_norm_eps":
        1e-05, "rope_theta": 1000000.0, "sliding_window": None, "tie_word_embeddings": False, "torch_dtype":
        "bfloat16",
    },
    "Nemo": SIZES | {
        "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "max_position_embeddings": 131072, "model_type": "mistral", "num_key_value_heads": 2, "rms_norm_eps":
        1e-05, "rope_theta": 1000000.0, "sliding_window": None, "tie_word_embeddings": False, "torch_dtype":
        "bfloat16", "head_dim": 24,
    },
    "Mixtral": SIZES | {
        "architectures": ["MixtralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "max_position_embeddings": 32768, "model_type": "mixtral", "num_experts_per_tok": 2,
        "num_key_value_heads": 2, "num_local_experts": 4, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0,
        "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    },
    "Qwen2": SIZES | {
        "architectures": ["Qwen2ForCausalLM"], "bos_token_id": 151643, "eos_token_id": 151645, "hidden_act":
        "silu", "max_position_embeddings": 32768, "max_window_layers": 28, "model_type": "qwen2",
        "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_sliding_window": False,
    },
    "Qwen2.5": SIZES | {
        "architectures": ["Qwen2ForCausalLM"], "bos_token_id": 151643, "eos_token_id": 151645, "hidden_act":
        "silu", "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2",
        "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_sliding_window": False, "use_mrope": False,
    },
    "Qwen2.5-yarn": SIZES | {
        "architectures": ["Qwen2ForCausalLM"], "bos_token_id": 151643, "eos_token_id": 151645, "hidden_act":
        "silu", "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2",
        "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_sliding_window": False, "use_mrope":
        False, "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"},
    },
    "Qwen2.5-1M": SIZES | {
        "architectures": ["Qwen2ForCausalLM"], "bos_token_id": 151643, "eos_token_id": 151645, "hidden_act":
        "silu", "max_position_embeddings": 1010000, "max_window_layers": 28, "model_type": "qwen2",
        "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 10000000.0, "sliding_window": 32768,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_sliding_window": False,
        "dual_chunk_attention_config": {"chunk_size": 262144, "local_size": 8192,
        "original_max_position_embeddings": 262144},
    },
    "DSR1-Qwen": SIZES | {
        "architectures": ["Qwen2ForCausalLM"], "bos_token_id": 151646, "eos_token_id": 151643, "hidden_act":
        "silu", "max_position_embeddings": 32768, "max_window_layers": 28, "model_type": "qwen2",
        "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 4096,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_sliding_window": False, "use_mrope":
        False,
    },
    "Qwen2-MoE": SIZES | {
        "architectures": ["Qwen2MoeForCausalLM"], "bos_token_id": 151643, "decoder_sparse_step": 1,
        "eos_token_id": 151643, "hidden_act": "silu", "max_position_embeddings": 8192, "max_window_layers": 21,
        "model_type": "qwen2_moe", "moe_intermediate_size": 32, "norm_topk_prob": False, "num_experts": 6,
        "num_experts_per_tok": 2, "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
        "shared_expert_intermediate_size": 48, "sliding_window": 32768, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "use_sliding_window": False, "mlp_only_layers": [],
    },
    "Qwen3": SIZES | {
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "bos_token_id": 151643, "eos_token_id":
        151645, "head_dim": 24, "hidden_act": "silu", "max_position_embeddings": 40960, "max_window_layers":
        28, "model_type": "qwen3", "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_scaling": None,
        "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "use_sliding_window": False,
    },
    "Qwen3-MoE": SIZES | {
        "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": False, "bos_token_id": 151643,
        "eos_token_id": 151645, "head_dim": 24, "hidden_act": "silu", "max_position_embeddings": 40960,
        "max_window_layers": 28, "model_type": "qwen3_moe", "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "use_sliding_window": False, "decoder_sparse_step": 1, "mlp_only_layers":
        [], "moe_intermediate_size": 32, "norm_topk_prob": True, "num_experts": 6, "num_experts_per_tok": 2,
    },
    "Qwen3-MoE-2507-1M": SIZES | {
        "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": False, "bos_token_id": 151643,
        "eos_token_id": 151645, "head_dim": 24, "hidden_act": "silu", "max_position_embeddings": 262144,
        "max_window_layers": 28, "model_type": "qwen3_moe", "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "rope_scaling": None, "rope_theta": 10000000, "sliding_window": None, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "use_sliding_window": False, "decoder_sparse_step": 1, "mlp_only_layers":
        [], "moe_intermediate_size": 32, "norm_topk_prob": True, "num_experts": 6, "num_experts_per_tok": 2,
        "dual_chunk_attention_config": {"chunk_size": 262144, "local_size": 8192,
        "original_max_position_embeddings": 262144, "sparse_attention_enabled": True},
    },
    "Qwen3-Coder": SIZES | {
        "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": False, "bos_token_id": 151643,
        "eos_token_id": 151645, "head_dim": 24, "hidden_act": "silu", "max_position_embeddings": 262144,
        "max_window_layers": 28, "model_type": "qwen3_moe", "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "rope_scaling": None, "rope_theta": 10000000, "sliding_window": None, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "use_sliding_window": False, "decoder_sparse_step": 1, "mlp_only_layers":
        [], "moe_intermediate_size": 32, "norm_topk_prob": True, "num_experts": 6, "num_experts_per_tok": 2,
        "qkv_bias": False, "shared_expert_intermediate_size": 0, "use_qk_norm": True,
    },
    "Qwen3-Next": SIZES | {
        "architectures": ["Qwen3NextForCausalLM"], "attention_bias": False, "bos_token_id": 151643,
        "decoder_sparse_step": 1, "eos_token_id": 151645, "full_attention_interval": 4, "head_dim": 32,
        "hidden_act": "silu", "linear_conv_kernel_dim": 4, "linear_key_head_dim": 16, "linear_num_key_heads":
        2, "linear_num_value_heads": 4, "linear_value_head_dim": 16, "max_position_embeddings": 262144,
        "mlp_only_layers": [], "model_type": "qwen3_next", "moe_intermediate_size": 32, "norm_topk_prob": True,
        "num_experts": 6, "num_experts_per_tok": 2, "num_key_value_heads": 2, "partial_rotary_factor": 0.25,
        "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 10000000, "shared_expert_intermediate_size":
        32, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_sliding_window": False,
    },
    "Gemma2": SIZES | {
        "architectures": ["Gemma2ForCausalLM"], "attention_bias": False, "attn_logit_softcapping": 50.0,
        "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": 1, "final_logit_softcapping":
        30.0, "head_dim": 24, "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192, "model_type": "gemma2", "num_key_value_heads": 2, "pad_token_id": 0,
        "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096,
        "torch_dtype": "float32",
    },
    "Gemma2-it": SIZES | {
        "architectures": ["Gemma2ForCausalLM"], "attention_bias": False, "attn_logit_softcapping": 50.0,
        "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 107],
        "final_logit_softcapping": 30.0, "head_dim": 24, "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 8192, "model_type": "gemma2",
        "num_key_value_heads": 2, "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0, "sliding_window": 4096, "torch_dtype": "float32", "sliding_window_size": 4096,
    },
    "Gemma3-1b": SIZES | {
        "architectures": ["Gemma3ForCausalLM"], "attention_bias": False, "attn_logit_softcapping": None,
        "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 106],
        "final_logit_softcapping": None, "head_dim": 24, "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 32768, "model_type": "gemma3_text", "num_key_value_heads": 1,
        "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000,
        "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6,
        "torch_dtype": "bfloat16", "num_hidden_layers": 7,
    },
    "Gemma3-270m": SIZES | {
        "architectures": ["Gemma3ForCausalLM"], "attention_bias": False, "attn_logit_softcapping": None,
        "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": 1, "final_logit_softcapping":
        None, "head_dim": 24, "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 32768,
        "model_type": "gemma3_text", "num_key_value_heads": 1, "pad_token_id": 0, "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000, "rope_scaling": None, "rope_theta": 1000000,
        "sliding_window": 512, "torch_dtype": "bfloat16", "num_hidden_layers": 7, "_sliding_window_pattern": 6,
        "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "sliding_attention",
        "sliding_attention", "full_attention", "sliding_attention"], "use_bidirectional_attention": False,
    },
    "Gemma3-text4b": SIZES | {
        "architectures": ["Gemma3ForCausalLM"], "attention_bias": False, "attn_logit_softcapping": None,
        "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 106],
        "final_logit_softcapping": None, "head_dim": 24, "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 32768, "model_type": "gemma3_text", "num_key_value_heads": 1,
        "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "rope_theta": 1000000, "sliding_window": 512,
        "sliding_window_pattern": 6, "torch_dtype": "bfloat16", "num_hidden_layers": 7,
    },
    "Phi3-4k": SIZES | {
        "_name_or_path": "Phi-3-mini-4k-instruct", "architectures": ["Phi3ForCausalLM"], "auto_map":
        {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM":
        "modeling_phi3.Phi3ForCausalLM"}, "bos_token_id": 1, "embd_pdrop": 0.0, "eos_token_id": 32000,
        "hidden_act": "silu", "max_position_embeddings": 4096, "model_type": "phi3", "num_key_value_heads": 4,
        "original_max_position_embeddings": 4096, "pad_token_id": 2000, "resid_pdrop": 0.0, "rms_norm_eps":
        1e-05, "rope_scaling": None, "rope_theta": 10000.0, "sliding_window": 2047, "tie_word_embeddings":
        False, "torch_dtype": "bfloat16", "attention_bias": False,
    },
    "Phi3-128k": SIZES | {
        "_name_or_path": "Phi-3-mini-4k-instruct", "architectures": ["Phi3ForCausalLM"], "auto_map":
        {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM":
        "modeling_phi3.Phi3ForCausalLM"}, "bos_token_id": 1, "embd_pdrop": 0.0, "eos_token_id": 32000,
        "hidden_act": "silu", "max_position_embeddings": 131072, "model_type": "phi3", "num_key_value_heads":
        4, "original_max_position_embeddings": 4096, "pad_token_id": 2000, "resid_pdrop": 0.0, "rms_norm_eps":
        1e-05, "rope_scaling": {"long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], "short_factor": [1.0,
        1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7000000000000002], "type": "longrope"}, "rope_theta": 10000.0,
        "sliding_window": 262144, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "attention_bias":
        False,
    },
    "Phi4-mini": SIZES | {
        "architectures": ["Phi3ForCausalLM"], "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config",
        "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}, "bos_token_id": 199999, "embd_pdrop": 0.0,
        "eos_token_id": 199999, "hidden_act": "silu", "max_position_embeddings": 131072, "model_type": "phi3",
        "num_key_value_heads": 2, "original_max_position_embeddings": 4096, "pad_token_id": 1999,
        "resid_pdrop": 0.0, "rms_norm_eps": 1e-05, "rope_scaling": {"long_factor": [1.0, 2.0, 3.0, 4.0, 5.0,
        6.0], "short_factor": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0], "type": "longrope"}, "rope_theta": 10000.0,
        "sliding_window": 262144, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "attention_bias":
        False, "head_dim": 16, "partial_rotary_factor": 0.75, "full_attn_mod": 1, "interpolate_factor": 1,
        "lm_head_bias": False,
    },
    "StarCoder2-3b": SIZES | {
        "architectures": ["Starcoder2ForCausalLM"], "attention_softmax_in_fp32": True, "bos_token_id": 0,
        "embedding_dropout": 0.1, "eos_token_id": 0, "hidden_act": "gelu_pytorch_tanh",
        "max_position_embeddings": 16384, "mlp_type": "default", "model_type": "starcoder2", "norm_epsilon":
        1e-05, "norm_type": "layer_norm", "num_key_value_heads": 2, "residual_dropout": 0.1, "rope_theta":
        999999.4420358813, "scale_attention_softmax_in_fp32": True, "scale_attn_weights": True,
        "sliding_window": 4096, "torch_dtype": "float32", "use_bias": True,
    },
    "StableLM2": SIZES | {
        "architectures": ["StableLmForCausalLM"], "bos_token_id": 100257, "eos_token_id": 100257, "hidden_act":
        "silu", "hidden_dropout": 0.0, "layer_norm_eps": 1e-05, "max_position_embeddings": 4096, "model_type":
        "stablelm", "num_key_value_heads": 4, "partial_rotary_factor": 0.25, "qk_layernorm": False,
        "rope_scaling": None, "rope_theta": 10000, "tie_word_embeddings": False, "torch_dtype": "float16",
        "use_parallel_residual": False, "use_qkv_bias": True,
    },
    "StableLM-3b-4e1t": SIZES | {
        "architectures": ["StableLmForCausalLM"], "bos_token_id": 100257, "eos_token_id": 100257, "hidden_act":
        "silu", "hidden_dropout": 0.0, "layer_norm_eps": 1e-05, "max_position_embeddings": 4096, "model_type":
        "stablelm", "num_key_value_heads": 4, "partial_rotary_factor": 0.25, "qk_layernorm": False,
        "rope_scaling": None, "rope_theta": 10000, "tie_word_embeddings": False, "torch_dtype": "float16",
        "use_parallel_residual": False, "use_qkv_bias": False, "norm_eps": 1e-05, "rope_pct": 0.25,
        "num_heads": 4, "rotary_scaling_factor": 1.0,
    },
    "Falcon7B": {
        "alibi": False, "apply_residual_connection_post_layernorm": False, "architectures":
        ["FalconForCausalLM"], "auto_map": {"AutoConfig": "configuration_falcon.FalconConfig", "AutoModel":
        "modeling_falcon.FalconModel"}, "bias": False, "bos_token_id": 11, "eos_token_id": 11,
        "hidden_dropout": 0.0, "hidden_size": 64, "layer_norm_epsilon": 1e-05, "model_type": "falcon",
        "multi_query": True, "new_decoder_architecture": False, "num_attention_heads": 4, "num_hidden_layers":
        4, "parallel_attn": True, "torch_dtype": "bfloat16", "vocab_size": 2048,
    },
    "Falcon40B": {
        "alibi": False, "apply_residual_connection_post_layernorm": False, "architectures":
        ["FalconForCausalLM"], "auto_map": {"AutoConfig": "configuration_falcon.FalconConfig", "AutoModel":
        "modeling_falcon.FalconModel"}, "bias": False, "bos_token_id": 11, "eos_token_id": 11,
        "hidden_dropout": 0.0, "hidden_size": 64, "layer_norm_epsilon": 1e-05, "model_type": "falcon",
        "new_decoder_architecture": True, "num_attention_heads": 4, "num_hidden_layers": 4, "parallel_attn":
        True, "torch_dtype": "bfloat16", "vocab_size": 2048, "num_kv_heads": 2,
    },
    "Falcon2-11B": {
        "alibi": False, "apply_residual_connection_post_layernorm": False, "architectures":
        ["FalconForCausalLM"], "auto_map": {"AutoConfig": "configuration_falcon.FalconConfig", "AutoModel":
        "modeling_falcon.FalconModel"}, "bias": False, "bos_token_id": 11, "eos_token_id": 11,
        "hidden_dropout": 0.0, "hidden_size": 64, "layer_norm_epsilon": 1e-05, "model_type": "falcon",
        "new_decoder_architecture": True, "num_attention_heads": 4, "num_hidden_layers": 4, "parallel_attn":
        True, "torch_dtype": "bfloat16", "vocab_size": 2048, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1,
        "ff_factor": 4, "activation": "gelu", "rope_theta": 500042.0, "max_position_embeddings": 8192,
        "tie_word_embeddings": False, "ffn_hidden_size": 256, "multi_query": False,
    },
    "Pythia": SIZES | {
        "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "gelu",
        "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "gpt_neox", "rotary_emb_base":
        10000, "rotary_pct": 0.25, "tie_word_embeddings": False, "torch_dtype": "float16",
        "use_parallel_residual": True,
    },
    "Pythia-new": SIZES | {
        "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "gelu",
        "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "gpt_neox", "rotary_emb_base":
        10000, "rotary_pct": 0.25, "tie_word_embeddings": False, "torch_dtype": "float16",
        "use_parallel_residual": True, "attention_bias": True, "hidden_dropout": 0.0, "classifier_dropout":
        0.1, "partial_rotary_factor": 0.25, "rope_scaling": None, "rope_theta": 10000,
    },
    "OLMo2": SIZES | {
        "architectures": ["Olmo2ForCausalLM"], "attention_bias": False, "bos_token_id": 100257, "eos_token_id":
        100257, "hidden_act": "silu", "max_position_embeddings": 4096, "model_type": "olmo2",
        "num_key_value_heads": 4, "pad_token_id": 1999, "rms_norm_eps": 1e-06, "rope_scaling": None,
        "rope_theta": 500000, "tie_word_embeddings": False, "torch_dtype": "float32",
    },
    "SmolLM3": SIZES | {
        "architectures": ["SmolLM3ForCausalLM"], "attention_bias": False, "bos_token_id": None, "eos_token_id":
        128012, "hidden_act": "silu", "layer_types": ["full_attention", "full_attention", "full_attention",
        "full_attention"], "max_position_embeddings": 65536, "max_window_layers": 28, "model_type": "smollm3",
        "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0], "num_key_value_heads": 2, "pad_token_id":
        2000, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 5000000.0, "sliding_window": None,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_sliding_window": False,
    },
    "CommandR": SIZES | {
        "architectures": ["CohereForCausalLM"], "attention_bias": False, "bos_token_id": 5, "eos_token_id":
        255001, "hidden_act": "silu", "layer_norm_eps": 1e-05, "logit_scale": 0.0625,
        "max_position_embeddings": 8192, "model_max_length": 131072, "model_type": "cohere",
        "num_key_value_heads": 4, "pad_token_id": 0, "rope_theta": 8000000.0, "torch_dtype": "float16",
        "use_qk_norm": False,
    },
    "CommandR7B": SIZES | {
        "architectures": ["Cohere2ForCausalLM"], "attention_bias": False, "bos_token_id": 5,
        "cache_implementation": "hybrid", "eos_token_id": 255001, "head_dim": 16, "hidden_act": "silu",
        "layer_norm_eps": 1e-05, "layer_switch": 4, "logit_scale": 0.25, "max_position_embeddings": 8192,
        "model_type": "cohere2", "num_key_value_heads": 2, "order_of_interleaved_layers": "local_attn_first",
        "pad_token_id": 0, "position_embedding_type": "rope_gptj", "rope_scaling": None, "rope_theta": 50000,
        "rotary_pct": 1.0, "sliding_window": 4096, "sliding_window_pattern": 4, "torch_dtype": "bfloat16",
        "use_embedding_sharing": True, "use_gated_activation": True, "use_parallel_block": True,
        "use_parallel_embedding": True,
    },
    "CommandA": SIZES | {
        "architectures": ["Cohere2ForCausalLM"], "attention_bias": False, "bos_token_id": 5,
        "cache_implementation": "hybrid", "eos_token_id": 255001, "head_dim": 16, "hidden_act": "silu",
        "layer_norm_eps": 1e-05, "layer_switch": 4, "logit_scale": 0.25, "max_position_embeddings": 131072,
        "model_type": "cohere2", "num_key_value_heads": 2, "order_of_interleaved_layers": "local_attn_first",
        "pad_token_id": 0, "position_embedding_type": "rope_gptj", "rope_scaling": None, "rope_theta": 50000,
        "rotary_pct": 1.0, "sliding_window": 4096, "sliding_window_pattern": 4, "torch_dtype": "bfloat16",
        "use_embedding_sharing": True, "use_gated_activation": True, "use_parallel_block": True,
        "use_parallel_embedding": True, "_sliding_window_pattern": 4, "layer_types": ["sliding_attention",
        "sliding_attention", "sliding_attention", "full_attention"], "tie_word_embeddings": True,
        "use_qk_norm": False,
    },
    "GLM4-0414": SIZES | {
        "architectures": ["Glm4ForCausalLM"], "attention_bias": False, "eos_token_id": [151329, 151336,
        151338], "head_dim": 16, "hidden_act": "silu", "max_position_embeddings": 32768, "model_type": "glm4",
        "num_key_value_heads": 2, "pad_token_id": 1329, "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    },
    "gpt-oss": SIZES | {
        "architectures": ["GptOssForCausalLM"], "attention_bias": True, "eos_token_id": 200002,
        "experts_per_token": 2, "head_dim": 16, "hidden_act": "silu", "initial_context_length": 4096,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        "max_position_embeddings": 131072, "model_type": "gpt_oss", "num_experts_per_tok": 2,
        "num_key_value_heads": 2, "num_local_experts": 4, "pad_token_id": 1999, "rms_norm_eps": 1e-05,
        "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0,
        "original_max_position_embeddings": 4096, "rope_type": "yarn", "truncate": False}, "rope_theta":
        150000, "sliding_window": 128, "swiglu_limit": 7.0, "tie_word_embeddings": False,
    },
    "DSV2-Lite": SIZES | {
        "architectures": ["DeepseekV2ForCausalLM"], "attention_bias": False, "auto_map": {"AutoConfig":
        "configuration_deepseek.DeepseekV2Config"}, "aux_loss_alpha": 0.001, "bos_token_id": 100000,
        "eos_token_id": 100001, "first_k_dense_replace": 1, "hidden_act": "silu", "kv_lora_rank": 32,
        "max_position_embeddings": 163840, "model_type": "deepseek_v2", "moe_intermediate_size": 32,
        "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 6, "n_shared_experts": 2, "norm_topk_prob":
        False, "num_experts_per_tok": 2, "num_key_value_heads": 4, "q_lora_rank": None, "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8, "rms_norm_eps": 1e-06, "rope_scaling": {"beta_fast": 32, "beta_slow": 1,
        "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096,
        "type": "yarn"}, "rope_theta": 10000, "routed_scaling_factor": 1.0, "scoring_func": "softmax",
        "seq_aux": True, "tie_word_embeddings": False, "topk_group": 1, "topk_method": "greedy", "torch_dtype":
        "bfloat16", "v_head_dim": 16,
    },
    "DSV2": SIZES | {
        "architectures": ["DeepseekV2ForCausalLM"], "attention_bias": False, "auto_map": {"AutoConfig":
        "configuration_deepseek.DeepseekV2Config"}, "aux_loss_alpha": 0.001, "bos_token_id": 100000,
        "eos_token_id": 100001, "first_k_dense_replace": 1, "hidden_act": "silu", "kv_lora_rank": 32,
        "max_position_embeddings": 163840, "model_type": "deepseek_v2", "moe_intermediate_size": 32,
        "moe_layer_freq": 1, "n_group": 2, "n_routed_experts": 6, "n_shared_experts": 2, "norm_topk_prob":
        False, "num_experts_per_tok": 2, "num_key_value_heads": 4, "q_lora_rank": 24, "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8, "rms_norm_eps": 1e-06, "rope_scaling": {"beta_fast": 32, "beta_slow": 1,
        "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096,
        "type": "yarn"}, "rope_theta": 10000, "routed_scaling_factor": 16.0, "scoring_func": "softmax",
        "seq_aux": True, "tie_word_embeddings": False, "topk_group": 1, "topk_method": "group_limited_greedy",
        "torch_dtype": "bfloat16", "v_head_dim": 16, "ep_size": 1,
    },
    "DSV3": SIZES | {
        "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": False, "auto_map": {"AutoConfig":
        "configuration_deepseek.DeepseekV3Config"}, "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1,
        "first_k_dense_replace": 1, "hidden_act": "silu", "kv_lora_rank": 32, "max_position_embeddings":
        163840, "model_type": "deepseek_v3", "moe_intermediate_size": 32, "moe_layer_freq": 1, "n_group": 2,
        "n_routed_experts": 8, "n_shared_experts": 1, "norm_topk_prob": True, "num_experts_per_tok": 2,
        "num_key_value_heads": 4, "num_nextn_predict_layers": 1, "aux_loss_alpha": 0.001, "seq_aux": True,
        "q_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "rms_norm_eps": 1e-06,
        "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096, "type": "yarn"}, "rope_theta": 10000,
        "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings": False, "topk_group": 1,
        "topk_method": "noaux_tc", "torch_dtype": "bfloat16", "v_head_dim": 16,
    },
    "Moonlight": SIZES | {
        "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": False, "auto_map": {"AutoConfig":
        "configuration_deepseek.DeepseekV3Config"}, "bos_token_id": 0, "eos_token_id": 163586, "ep_size": 1,
        "first_k_dense_replace": 1, "hidden_act": "silu", "kv_lora_rank": 32, "max_position_embeddings":
        163840, "model_type": "deepseek_v3", "moe_intermediate_size": 32, "moe_layer_freq": 1, "n_group": 1,
        "n_routed_experts": 8, "n_shared_experts": 1, "norm_topk_prob": True, "num_experts_per_tok": 2,
        "num_key_value_heads": 4, "num_nextn_predict_layers": 0, "aux_loss_alpha": 0.001, "seq_aux": True,
        "q_lora_rank": None, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "rms_norm_eps": 1e-06,
        "rope_theta": 50000.0, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings":
        False, "topk_group": 1, "topk_method": "noaux_tc", "torch_dtype": "bfloat16", "v_head_dim": 16,
    },
    "LFM2": {
        "architectures": ["Lfm2ForCausalLM"], "block_auto_adjust_ff_dim": True, "block_dim": 64,
        "block_ff_dim": 96, "block_ffn_dim_multiplier": 1.0, "block_mlp_init_scale": 1.0, "block_multiple_of":
        16, "block_norm_eps": 1e-05, "block_out_init_scale": 1.0, "block_use_swiglu": True,
        "block_use_xavier_init": True, "bos_token_id": 1, "conv_L_cache": 3, "conv_bias": False, "conv_dim":
        64, "conv_dim_out": 64, "conv_use_xavier_init": True, "eos_token_id": 7, "full_attn_idxs": [1, 3],
        "hidden_size": 64, "max_position_embeddings": 128000, "model_type": "lfm2", "norm_eps": 1e-05,
        "num_attention_heads": 4, "num_heads": 4, "num_hidden_layers": 4, "num_key_value_heads": 2,
        "pad_token_id": 0, "rope_theta": 1000000.0, "theta": 1000000.0, "tie_embedding": True, "torch_dtype":
        "bfloat16", "use_pos_enc": True, "vocab_size": 2048,
    },
    "LFM2-MoE": SIZES | {
        "architectures": ["Lfm2MoeForCausalLM"], "bos_token_id": 1, "conv_L_cache": 3, "conv_bias": False,
        "dtype": "bfloat16", "eos_token_id": 7, "layer_types": ["conv", "full_attention", "conv",
        "full_attention"], "max_position_embeddings": 128000, "model_type": "lfm2_moe",
        "moe_intermediate_size": 32, "norm_eps": 1e-05, "norm_topk_prob": True, "num_dense_layers": 2,
        "num_experts": 6, "num_experts_per_tok": 2, "num_key_value_heads": 2, "pad_token_id": 0, "rope_theta":
        1000000.0, "routed_scaling_factor": 1.0, "use_expert_bias": True,
    },
    "Bamba": SIZES | {
        "architectures": ["BambaForCausalLM"], "attention_bias": False, "attn_layer_indices": [1, 3],
        "attn_rotary_emb": 8, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "mamba_chunk_size":
        256, "mamba_conv_bias": True, "mamba_d_conv": 4, "mamba_d_head": 32, "mamba_d_state": 16,
        "mamba_dt_rank": 256, "mamba_expand": 2, "mamba_n_groups": 1, "mamba_n_heads": 4, "mamba_proj_bias":
        False, "max_position_embeddings": 262144, "model_type": "bamba", "num_key_value_heads": 2,
        "num_logits_to_keep": 1, "pad_token_id": 0, "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-05,
        "rope_scaling": None, "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "use_mamba_kernels": True,
    },
    "FalconH1": SIZES | {
        "architectures": ["FalconH1ForCausalLM"], "attention_bias": False, "attention_in_multiplier": 1.0,
        "attention_out_multiplier": 0.9375, "bos_token_id": 1, "embedding_multiplier": 5.656854249492381,
        "eos_token_id": 11, "head_dim": 16, "hidden_act": "silu", "key_multiplier": 0.390625,
        "lm_head_multiplier": 0.0390625, "mamba_chunk_size": 128, "mamba_conv_bias": True, "mamba_d_conv": 4,
        "mamba_d_head": 16, "mamba_d_ssm": 64, "mamba_d_state": 16, "mamba_expand": 2, "mamba_n_groups": 1,
        "mamba_n_heads": 4, "mamba_norm_before_gate": False, "mamba_proj_bias": False, "mamba_rms_norm": False,
        "mamba_use_mlp": True, "max_position_embeddings": 16384, "mlp_expansion_factor": 8, "mlp_multipliers":
        [0.8838834764831844, 0.5859375], "model_type": "falcon_h1", "num_key_value_heads": 2,
        "num_logits_to_keep": 1, "pad_token_id": 0, "projectors_bias": False, "rms_norm_eps": 1e-05,
        "rope_scaling": None, "rope_theta": 100000000000.0, "ssm_in_multiplier": 1.25, "ssm_multipliers":
        [0.3535533905932738, 0.25, 0.3535533905932738, 0.5, 0.3535533905932738], "ssm_out_multiplier":
        0.23570226039551587, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    },
    "Granite3": SIZES | {
        "architectures": ["GraniteForCausalLM"], "attention_bias": False, "attention_multiplier": 0.015625,
        "bos_token_id": 0, "embedding_multiplier": 12.0, "eos_token_id": 0, "hidden_act": "silu",
        "logits_scaling": 8.0, "max_position_embeddings": 4096, "model_type": "granite", "num_key_value_heads":
        2, "pad_token_id": 0, "residual_multiplier": 0.22, "rms_norm_eps": 1e-05, "rope_scaling": None,
        "rope_theta": 10000, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    },
    "Granite4-H": SIZES | {
        "architectures": ["GraniteMoeHybridForCausalLM"], "attention_bias": False, "attention_multiplier":
        0.0078125, "bos_token_id": 1257, "embedding_multiplier": 12, "eos_token_id": 1257, "hidden_act":
        "silu", "init_method": "mup", "layer_types": ["mamba", "attention", "mamba", "attention"],
        "logits_scaling": 8, "mamba_chunk_size": 256, "mamba_conv_bias": True, "mamba_d_conv": 4,
        "mamba_d_head": 32, "mamba_d_state": 16, "mamba_expand": 2, "mamba_n_groups": 1, "mamba_n_heads": 4,
        "mamba_proj_bias": False, "max_position_embeddings": 131072, "model_type": "granitemoehybrid",
        "normalization_function": "rmsnorm", "num_experts_per_tok": 2, "num_key_value_heads": 2,
        "num_local_experts": 4, "pad_token_id": 1256, "position_embedding_type": "rope", "residual_multiplier":
        0.22, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000, "shared_intermediate_size": 48,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    },
    "Granite4-dense": SIZES | {
        "architectures": ["GraniteMoeHybridForCausalLM"], "attention_bias": False, "attention_multiplier":
        0.0078125, "bos_token_id": 1257, "embedding_multiplier": 12, "eos_token_id": 1257, "hidden_act":
        "silu", "init_method": "mup", "layer_types": ["attention", "attention", "attention", "attention"],
        "logits_scaling": 8, "mamba_chunk_size": 256, "mamba_conv_bias": True, "mamba_d_conv": 4,
        "mamba_d_head": 32, "mamba_d_state": 16, "mamba_expand": 2, "mamba_n_groups": 1, "mamba_n_heads": 4,
        "mamba_proj_bias": False, "max_position_embeddings": 131072, "model_type": "granitemoehybrid",
        "normalization_function": "rmsnorm", "num_experts_per_tok": 0, "num_key_value_heads": 2,
        "num_local_experts": 0, "pad_token_id": 1256, "position_embedding_type": "rope", "residual_multiplier":
        0.22, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000, "shared_intermediate_size": 48,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "dtype": "bfloat16",
    },
    "Qwen3.5-text": SIZES | {
        "architectures": ["Qwen3_5ForCausalLM"], "model_type": "qwen3_5_text", "attention_bias": False,
        "attn_output_gate": True, "dtype": "bfloat16", "eos_token_id": 248044, "full_attention_interval": 4,
        "head_dim": 32, "hidden_act": "silu", "layer_types": ["linear_attention", "linear_attention",
        "linear_attention", "full_attention"], "linear_conv_kernel_dim": 4, "linear_key_head_dim": 16,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_value_head_dim": 16,
        "max_position_embeddings": 262144, "mlp_only_layers": [], "mtp_num_hidden_layers": 1,
        "mtp_use_dedicated_embeddings": False, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "tie_word_embeddings": True, "mamba_ssm_dtype": "float32", "rope_parameters": {"mrope_interleaved":
        True, "mrope_section": [2, 1, 1], "rope_type": "default", "rope_theta": 10000000,
        "partial_rotary_factor": 0.25},
    },
    "Llama3.2-v5": SIZES | {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": 128000, "eos_token_id":
        [128001, 128008, 128009], "hidden_act": "silu", "max_position_embeddings": 131072, "model_type":
        "llama", "num_key_value_heads": 2, "rms_norm_eps": 1e-05, "tie_word_embeddings": True, "head_dim": 16,
        "dtype": "bfloat16", "rope_parameters": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor":
        1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3", "rope_theta": 500000.0},
    },
    "Qwen3-v5": SIZES | {
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "bos_token_id": 151643, "eos_token_id":
        151645, "head_dim": 24, "hidden_act": "silu", "max_position_embeddings": 40960, "max_window_layers":
        28, "model_type": "qwen3", "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "sliding_window": None,
        "tie_word_embeddings": True, "use_sliding_window": False, "dtype": "bfloat16", "rope_parameters":
        {"rope_theta": 1000000, "rope_type": "default"},
    },
    "Gemma3-v5": SIZES | {
        "architectures": ["Gemma3ForCausalLM"], "attention_bias": False, "attn_logit_softcapping": None,
        "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 106],
        "final_logit_softcapping": None, "head_dim": 24, "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 32768, "model_type": "gemma3_text", "num_key_value_heads": 1,
        "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "sliding_window": 512,
        "sliding_window_pattern": 6, "num_hidden_layers": 7, "dtype": "bfloat16", "rope_parameters":
        {"full_attention": {"rope_type": "default", "rope_theta": 1000000.0}, "sliding_attention":
        {"rope_type": "default", "rope_theta": 10000.0}},
    },
    "Phi4-v5": SIZES | {
        "architectures": ["Phi3ForCausalLM"], "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config",
        "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}, "bos_token_id": 199999, "embd_pdrop": 0.0,
        "eos_token_id": 199999, "hidden_act": "silu", "max_position_embeddings": 131072, "model_type": "phi3",
        "num_key_value_heads": 2, "original_max_position_embeddings": 4096, "pad_token_id": 1999,
        "resid_pdrop": 0.0, "rms_norm_eps": 1e-05, "sliding_window": 262144, "tie_word_embeddings": True,
        "attention_bias": False, "head_dim": 16, "full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias":
        False, "dtype": "bfloat16", "rope_parameters": {"long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        "short_factor": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0], "rope_type": "longrope", "rope_theta": 10000.0,
        "partial_rotary_factor": 0.75, "original_max_position_embeddings": 4096},
    },
    "Pythia-v5": SIZES | {
        "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "gelu",
        "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "gpt_neox", "rotary_emb_base":
        10000, "rotary_pct": 0.25, "tie_word_embeddings": False, "use_parallel_residual": True,
        "attention_bias": True, "hidden_dropout": 0.0, "classifier_dropout": 0.1, "dtype": "bfloat16",
        "rope_parameters": {"rope_theta": 10000, "rope_type": "default", "partial_rotary_factor": 0.25},
    },
}  # fmt: skip
