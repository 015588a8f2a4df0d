"""A small server with the decoding rules of vLLM, for failures that a real one has too seldom."""

import base64
import binascii
import io
import json
import threading
import time
import zlib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch


class Refusal(Exception):
    def __init__(self, text, status=400):
        super().__init__(text)
        self.status = status


def decode_embeds(encoded, width, dtype, enabled=True):
    """The tensor of a request, by the rules of vLLM."""
    if not enabled:
        raise Refusal("You must set `--enable-prompt-embeds` to input `prompt_embeds`.")
    try:
        payload = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise Refusal(str(error)) from error
    tensor = torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu")
    if not tensor.is_contiguous() or tensor.untyped_storage().nbytes() != tensor.nbytes:
        raise Refusal("`prompt_embeds` holds more than its tensor")  # which vLLM takes
    if tensor.layout != torch.strided:
        raise Refusal("`prompt_embeds` must be dense")
    if tensor.dim() > 2:
        tensor = tensor.squeeze(0)
    if tensor.dim() != 2:
        raise Refusal("`prompt_embeds` must be a 2D tensor of shape (num_tokens, hidden_size)")
    if tensor.shape[1] != width:
        raise Refusal(
            f"`prompt_embeds` hidden_size {tensor.shape[1]} does not match the model's "
            f"hidden_size {width}."
        )
    if not tensor.is_floating_point():
        raise Refusal(f"`prompt_embeds` dtype {tensor.dtype} is not a floating-point type")
    return tensor if dtype is None else tensor.to(dtype)


class FakeServer:
    """Runs a transformers model with its own `generate`; knows nothing of sklopa.

    `trouble` holds what the next completion requests meet: a status, "drop" for a connection that
    ends without an answer, bytes to answer with, or a status and bytes. `delay` is how long each
    takes; `drip` the pause between single bytes of an answer; `scale` multiplies its own word
    embeddings.
    """

    def __init__(self, model, tokenizer, *, name="served", enabled=True, room=96, key=None):
        self.model, self.tokenizer = model, tokenizer
        self.name, self.enabled, self.room, self.key = name, enabled, room, key
        self.trouble, self.delay, self.scale = [], 0.0, 1.0
        self.requests, self.bodies, self.at_once, self.most_at_once = 0, [], 0, 0
        self.break_after = None  # parts of a stream after which the connection ends
        self.drip, self.packed, self.logins = 0.0, None, []  # packed: (Content-Encoding, bytes)
        self.listed = None  # bytes instead of the list of models
        # What a chat template puts between parts and around them. vLLM joins parts by line feeds,
        # empty ones left out, for templates that do not go through them one by one.
        self.joint, self.around, self.version = "", ("", ""), "0.32.0"
        self.knows_parts = True
        self.lock = threading.Lock()

    # ------------------------------------------------------------------ what vLLM does

    def models(self):
        return {"data": [{"id": self.name, "parent": None, "max_model_len": self.room}]}

    def converse(self, body):
        """A chat completion, with the parts of its one message spliced at their places."""
        (message,) = body["messages"]
        rows, texts, ids = [], [], []
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "prompt_embeds" and self.knows_parts:
                rows.append(self._decode(part["data"]))
                texts.append(_MARK)
            elif part["type"] == "text" and _MARK not in part["text"]:
                texts.append(part["text"])
            else:
                raise Refusal(f"Unsupported chat content part type: {part['type']!r}.")
        joined = self.joint.join(text for text in texts if text).join(self.around)
        table, read = self.model.get_input_embeddings().weight, []
        for i, text in enumerate(joined.split(_MARK)):  # a special token splits the text
            if i:
                read.append(rows[i - 1])
                ids += [len(self.tokenizer)] * len(rows[i - 1])
            own = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            read.append(table[torch.tensor(own, dtype=torch.long)])
            ids += own
        answer = self.complete(body, torch.cat(read))
        found = {"choices": [_as_message(choice, body) for choice in answer["choices"]]}
        return found | ({"prompt_token_ids": ids} if body.get("return_token_ids") else {})

    def complete(self, body, embeds=None):
        if body["model"] != self.name:
            raise Refusal(f"The model `{body['model']}` does not exist.", 404)
        embeds = self._embeds(body) if embeds is None else embeds
        if len(embeds) + body["max_tokens"] > self.room:
            raise Refusal(f"This model's maximum context length is {self.room} tokens.")
        rows = [self._generate(embeds, body) for _ in range(body.get("n", 1))]
        return {"choices": [self._choice(ids, scores, body) for ids, scores in rows]}

    def _embeds(self, body):
        table = self.model.get_input_embeddings().weight
        if body.get("prompt_embeds") is not None:
            return self._decode(body["prompt_embeds"])
        return table[torch.tensor(body["prompt"])] * self.scale

    def _decode(self, encoded):
        table = self.model.get_input_embeddings().weight
        return decode_embeds(encoded.encode(), table.shape[1], table.dtype, self.enabled)

    @torch.no_grad()
    def _generate(self, embeds, body):
        sampled = body["temperature"] > 0
        options = {"temperature": body["temperature"], "top_p": body["top_p"]} if sampled else {}
        with self.lock:
            if sampled:
                torch.manual_seed(body["seed"] + len(self.bodies))
            out = self.model.generate(
                inputs_embeds=embeds.unsqueeze(0), attention_mask=torch.ones(1, len(embeds)),
                max_new_tokens=body["max_tokens"], do_sample=sampled, output_logits=True,
                return_dict_in_generate=True, pad_token_id=0, **options,
                eos_token_id=body.get("stop_token_ids") or self.tokenizer.eos_token_id,
            )  # fmt: skip
        return out.sequences[0].tolist(), out.logits[0][0].log_softmax(-1)

    def _choice(self, ids, scores, body):
        ids = ids[:-1] if ids[-1] in body.get("stop_token_ids", []) else ids
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        for stop in body.get("stop", []):
            text = text.split(stop)[0]
        found = body.get("logprob_token_ids") or scores.topk(5).indices.tolist()
        return {
            "text": text,
            "logprobs": {"top_logprobs": [{f"token_id:{i}": float(scores[i]) for i in found}]},
        }


_MARK = "<prompt_embeds>"


def _as_message(choice, body):
    """A choice as chat completions have it."""
    (logs,) = choice["logprobs"]["top_logprobs"]
    tops = [{"token": token, "logprob": value} for token, value in logs.items()]
    said = {"message": {"role": "assistant", "content": choice["text"]}}
    return said | {
        "logprobs": {"content": [{"top_logprobs": tops}]} if body.get("logprobs") else None
    }


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.fake.logins.append(self.headers["Authorization"])
        if self.path == "/v1/models" and self.fake.listed is not None:
            return self._send(200, self.fake.listed)
        if self.path == "/v1/models":
            return self._send(200, self.fake.models())
        if self.path == "/version" and self.fake.version:
            return self._send(200, {"version": self.fake.version})
        return self._send(404, {"detail": "Not Found"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.fake.lock:
            self.fake.requests += 1
            self.fake.at_once += 1
            self.fake.most_at_once = max(self.fake.most_at_once, self.fake.at_once)
            trouble = self.fake.trouble.pop(0) if self.fake.trouble else None
        try:
            time.sleep(self.fake.delay)
            self._answer(body, trouble)
        finally:
            with self.fake.lock:
                self.fake.at_once -= 1

    def _answer(self, body, trouble):
        if trouble == "drop":
            self.close_connection = True
            return self.connection.close()
        if isinstance(trouble, bytes):
            return self._send(200, trouble)
        if isinstance(trouble, tuple):
            return self._send(*trouble)
        if trouble:
            return self._refuse("out of order", trouble)
        if self.fake.packed:
            return self._send(200, self.fake.packed[1], self.fake.packed[0])
        if self.fake.key and self.headers["Authorization"] != f"Bearer {self.fake.key}":
            return self._refuse("Unauthorized", 401)
        try:
            is_chat = self.path == "/v1/chat/completions"
            answer = self.fake.converse(body) if is_chat else self.fake.complete(body)
        except Refusal as refusal:
            return self._refuse(str(refusal), refusal.status)
        self.fake.bodies.append(body)
        return self._stream(answer) if body.get("stream") else self._send(200, answer)

    def _stream(self, answer):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        choice = answer["choices"][0]
        is_chat = "message" in choice
        words = (choice["message"]["content"] if is_chat else choice["text"]).split(" ")
        parts = [f" {word}" if i else word for i, word in enumerate(words)]
        # As honest servers do, with every letter as it is.
        made = [{"delta": {"content": part}} if is_chat else {"text": part} for part in parts]
        made = [{"delta": {"role": "assistant"}}, *made] if is_chat else made
        lines = [json.dumps({"choices": [one]}, ensure_ascii=False) for one in made]
        lines.append("[DONE]")
        for i, line in enumerate(lines):
            if i == self.fake.break_after:
                self.close_connection = True
                return self.connection.close()
            data = f"data: {line}\n\n".encode()
            self._drip(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        return self.wfile.write(b"0\r\n\r\n")

    def _drip(self, data):
        """Send bytes, one after the other where the server is to be slow."""
        step = 1 if self.fake.drip else len(data)
        for i in range(0, len(data), step or 1):
            time.sleep(self.fake.drip)
            self.wfile.write(data[i : i + step])

    def _refuse(self, text, status):
        return self._send(status, {"error": {"message": text, "code": status}})

    def _send(self, status, content, encoding=None):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        self._drip(data)


def bomb(n_mebibytes):
    """Few bytes in gzip that unpack to many."""
    packer = zlib.compressobj(9, wbits=31)
    packed = [packer.compress(b" " * (1 << 20)) for _ in range(n_mebibytes)]
    return b"".join([*packed, packer.flush()])


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients that went away


@contextmanager
def serving(fake, port=0):
    """`fake` on a port of loopback, as a base_url."""
    server = _Quiet(("127.0.0.1", port), type("Handler", (_Handler,), {"fake": fake}))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
