"""Reading GGUF files: `opened.open_gguf` understands one, `template.template_folder` writes config and tokenizer."""
