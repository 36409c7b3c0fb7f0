"""The retrieval stage: passkey and needle prompts, answers, their result, findings and figures."""
