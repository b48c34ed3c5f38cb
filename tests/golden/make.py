"""Makes the golden files: tiny models of transformers, randomly initialised, with what they compute.

    python -m tests.golden.make            needs the extra `oracle`; the default tests read what it wrote

Each folder holds a model as transformers saves it (float32) and expected.npz: token ids, targets, and in float64 logits (or
hidden states, of a body alone), the loss, and its gradient for every tensor. transformers computes its rotary angles and
LLaMA's norms in float32 even for a float64 model; here both are in float64, so that agreement shows to the last digits.
"""
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
V, T = 11, 12
SMALL = dict(vocab_size=V, num_hidden_layers=2, max_position_embeddings=16, initializer_range=0.3)
LLAMA3 = dict(rope_type="llama3", rope_theta=1e3, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=8)


def cases():
    """{name: a model of transformers}"""
    import transformers as hf
    gpt2 = dict(vocab_size=V, n_positions=16, n_embd=8, n_layer=2, n_head=2, initializer_range=0.3, resid_pdrop=0.0,
                embd_pdrop=0.0, attn_pdrop=0.0)
    wide = dict(hidden_size=16, num_attention_heads=2, intermediate_size=12)
    llama = dict(hidden_size=8, num_attention_heads=4, intermediate_size=12)
    bert = dict(pad_token_id=None, hidden_size=8, num_attention_heads=2, intermediate_size=12, hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0)
    return {
        "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**gpt2)),
        "gpt2_untied": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**gpt2, n_inner=12, tie_word_embeddings=False,
                                                                activation_function="relu")),
        "neox_parallel": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(
            **SMALL, **wide, rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5))),
        "neox_serial": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(
            **SMALL, **wide, use_parallel_residual=False, attention_bias=False, tie_word_embeddings=True,
            rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=1e4, partial_rotary_factor=0.25))),
        "llama_grouped": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL, **llama, num_key_value_heads=2,
                                                                    rope_parameters=LLAMA3)),
        "llama_tied_bias": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(
            **SMALL, **llama, num_key_value_heads=1, head_dim=6, attention_bias=True, mlp_bias=True,
            tie_word_embeddings=True)),
        "bert": lambda: hf.BertForMaskedLM(hf.BertConfig(**SMALL, **bert)),
        "bert_body": lambda: hf.BertModel(hf.BertConfig(**SMALL, **bert)),
    }


def in_float64(model):
    """The model in float64, its rotary angles and norms too, by the formula."""
    import torch
    model = model.double().eval()
    for module in model.modules():
        if hasattr(module, "inv_freq"):
            freqs = torch.as_tensor(angles_per_position(module.config))

            def forward(x, position_ids, *args, freqs=freqs, **kwargs):
                a = position_ids[..., None].double() * freqs
                a = torch.cat([a, a], -1)
                return a.cos(), a.sin()

            module.forward = forward
        if type(module).__name__ == "LlamaRMSNorm":
            def normed(x, norm=module):
                return norm.weight * x / (x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()

            module.forward = normed
    return model


def angles_per_position(config):
    """Written out anew, from transformers' own words for them."""
    r = config.rope_parameters
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = int(size * r.get("partial_rotary_factor", 1.0))
    f = 1.0 / r["rope_theta"] ** (np.arange(0, size, 2, dtype=np.float64) / size)
    if r["rope_type"] == "linear":
        f /= r["factor"]
    if r["rope_type"] == "llama3":
        length = 2 * np.pi / f
        old, low, high = (r[k] for k in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor"))
        smooth = (old / length - low) / (high - low)
        between = (1 - smooth) * f / r["factor"] + smooth * f
        f = np.where(length > old / low, f / r["factor"], np.where(length < old / high, f, between))
    return f


def expected(model, idx, targets):
    """What the model computes, as {name: array}; gradients under "grad/" and the tensor's name."""
    import torch
    model.zero_grad()
    out = model(torch.as_tensor(idx))
    if not hasattr(out, "logits"):
        y, loss = out.last_hidden_state, (out.last_hidden_state ** 2).sum()
    else:
        y = out.logits
        loss = torch.nn.functional.cross_entropy(y.reshape(-1, y.shape[-1]), torch.as_tensor(targets).reshape(-1))
    loss.backward()
    last = "embed_out" if "NeoX" in type(model).__name__ else "lm_head"                # its name in the file
    grads = {f"grad/{name.replace('lm_head', last)}": p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    return dict(idx=idx, targets=targets, y=y.detach().numpy(), loss=np.float64(loss.item())) | grads


def main():
    import torch
    for seed, (name, build) in enumerate(cases().items()):
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        model = build()
        for p in model.parameters():                     # biases and norms, too, are not what they begin as
            p.data += 0.2 * torch.randn_like(p)
        model.save_pretrained(HERE / name)
        idx, targets = rng.integers(0, V, (2, 2, T))
        targets[0, :3] = -100
        np.savez_compressed(HERE / name / "expected.npz", **expected(in_float64(model), idx, targets))
        (HERE / name / "generation_config.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
