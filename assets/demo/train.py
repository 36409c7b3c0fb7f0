"""Train the embedded demo model from the vendored text: no network, under an hour on two idle CPU cores.

The dashboard needs a model that any machine runs in seconds and that yet shows what long context and quantization do
to each other. So this one is a plain Llama (`half` pairs, GQA, tied embeddings) with a native window of only 256
tokens: position interpolation by 4 is then a context of 1,024, and a CPU forwards that in a fraction of a second.

Nothing in it is planted. What makes a shared step coarse in K comes from training alone: the bias of k has no weight
decay and learns at KEY_BIAS_LR_FACTOR times the rate, which stands in for the long training by which such biases grow
large in real models (Qwen2). It ends up with about half of K's power, most of it in the middle frequency bands.

    python assets/demo/train.py --out DIR

Windows start anywhere in the token stream and carry no BOS, so the model reads any excerpt as it would in evaluation.
WORKERS processes of one thread each share every batch and average their gradients once a step: on a busy machine that
loses far less than threads, which wait for each other in every product. Same seed, machine and worker count give the
same weights; another CPU may round differently.
"""

import argparse
import csv
import json
import math
import os
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from corpus import draw_windows, read_documents, token_stream, train_tokenizer
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

VOCAB_SIZE = 2048
WINDOW = 256  # native context L0, tokens
SEED = 20250914
WORKERS = 2
BATCH = 8  # windows a step, all workers together
STEPS = 7000
PEAK_LR = 3e-3
INIT_STD = 0.04  # of width**-0.5 = 0.0625; transformers' 0.02 learns to attend far later at this width
FINAL_LR_SHARE = 0.05
WARMUP_STEPS = 100
WEIGHT_DECAY = 0.1  # matrices other than q and k projections and the embedding
QK_LR_FACTOR = 0.25  # faster, and the attention saturates to one-hot before it has learnt where to look
KEY_BIAS_LR_FACTOR = 10.0
GRADIENT_NORM = 1.0
LOG_EVERY = 25
CHECKPOINT_SECONDS = 120
# glibc hands freed buffers of this size back to the kernel and faults them in anew at every step unless told not to
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}


def model_config(layers: int, bias: bool) -> LlamaConfig:
    """Llama with 4 query heads on 2 KV heads; head_dim is stated, not derived."""
    return LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=WINDOW,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        attention_bias=bias,
        initializer_range=INIT_STD,
        bos_token_id=0,
        eos_token_id=0,
    )


def make_model(layers: int, bias: bool) -> LlamaForCausalLM:
    """Random model whose residual writers start smaller by sqrt(2 * layers), as in GPT-2."""
    model = LlamaForCausalLM(model_config(layers, bias))
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight /= math.sqrt(2 * layers)
            layer.mlp.down_proj.weight /= math.sqrt(2 * layers)
    return model


def make_optimizer(model: LlamaForCausalLM) -> torch.optim.AdamW:
    """AdamW; each group has its weight decay and its factor on the common learning rate."""
    groups = {
        "key bias": {"params": [], "weight_decay": 0.0, "factor": KEY_BIAS_LR_FACTOR},
        "query, key": {"params": [], "weight_decay": 0.0, "factor": QK_LR_FACTOR},
        "matrices": {"params": [], "weight_decay": WEIGHT_DECAY, "factor": 1.0},
        "rest": {"params": [], "weight_decay": 0.0, "factor": 1.0},  # embedding, norms, other biases
    }
    for name, parameter in model.named_parameters():
        if name.endswith("k_proj.bias"):
            group = "key bias"
        elif "q_proj" in name or "k_proj" in name:
            group = "query, key"
        elif parameter.ndim == 2 and "embed" not in name:
            group = "matrices"
        else:
            group = "rest"
        groups[group]["params"].append(parameter)
    return torch.optim.AdamW([g for g in groups.values() if g["params"]], betas=(0.9, 0.95), fused=True)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine from the peak to FINAL_LR_SHARE of it."""
    if step < WARMUP_STEPS:
        return peak * (step + 1) / WARMUP_STEPS
    turn = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return peak * (FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * 0.5 * (1 + math.cos(math.pi * turn)))


def train_step(model: LlamaForCausalLM, optimizer: torch.optim.AdamW, windows: Tensor, rate: float) -> float:
    """One update from this worker's windows, gradients averaged over workers; the mean loss, nats per token."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(windows, use_cache=False).logits  # (windows, WINDOW, VOCAB_SIZE)
    loss = cross_entropy(logits[:, :-1].flatten(0, 1).float(), windows[:, 1:].flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    gradients = [p.grad for p in model.parameters()]
    message = torch.cat([g.flatten() for g in gradients] + [loss.detach()[None]])  # (parameters + 1,)
    dist.all_reduce(message)
    message /= dist.get_world_size()
    for gradient, part in zip(gradients, message[:-1].split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
    torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
    optimizer.step()
    return message[-1].item()


def save(model: LlamaForCausalLM, out: Path) -> None:
    """fp16 weights under a config that says float32: half the bytes, and it loads in full precision by default."""
    model.config.save_pretrained(out)
    settings = json.loads((out / "config.json").read_text())
    settings["architectures"], settings["dtype"] = ["LlamaForCausalLM"], "float32"
    (out / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    weights = {k: v.half().contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}  # tied
    save_file(weights, out / "model.safetensors.new", metadata={"format": "pt"})
    (out / "model.safetensors.new").replace(out / "model.safetensors")


def work(rank: int, rendezvous: str, args: argparse.Namespace) -> None:
    """One worker's whole training; worker 0 also logs and leaves a loadable checkpoint every few minutes."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=WORKERS)
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    documents = read_documents()
    tokenizer = train_tokenizer(documents, VOCAB_SIZE)
    stream = token_stream(documents, tokenizer)
    model = make_model(args.layers, args.bias)
    optimizer = make_optimizer(model)
    generator = torch.Generator().manual_seed(SEED)
    started = saved = time.monotonic()
    rows, losses = [], []
    if rank == 0:
        tokenizer.save_pretrained(args.out)
        print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(stream):,} tokens", flush=True)
    for step in range(args.steps):
        rate = learning_rate(step, args.steps, args.peak_lr)
        windows = draw_windows(stream, BATCH, WINDOW, generator)
        losses.append(train_step(model, optimizer, windows[rank::WORKERS], rate))
        if rank != 0:
            continue
        last = step + 1 == args.steps
        if last or (step + 1) % LOG_EVERY == 0:
            tokens, seconds = (step + 1) * BATCH * WINDOW, time.monotonic() - started
            rows.append([step + 1, tokens, f"{sum(losses) / len(losses):.4f}", f"{rate:.2e}", f"{seconds:.0f}"])
            losses.clear()
            print(f"step {step + 1}/{args.steps}  loss {rows[-1][2]}  {tokens / seconds:,.0f} tokens/s", flush=True)
        if last or time.monotonic() - saved > CHECKPOINT_SECONDS:
            save(model, args.out)
            with open(args.out / "loss_curve.csv", "w", newline="") as log:
                csv.writer(log).writerows([["step", "tokens", "loss_nats", "learning_rate", "seconds"], *rows])
            saved = time.monotonic()
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    """Read the options and start the workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--bias", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--peak-lr", type=float, default=PEAK_LR)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    os.environ.update(ALLOCATOR)  # read by the workers' allocator when they start
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, args=(str(Path(folder) / "rendezvous"), args), nprocs=WORKERS)


if __name__ == "__main__":
    main()
