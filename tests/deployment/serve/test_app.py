import asyncio
import io
import re
import threading
from dataclasses import replace

import httpx
import pytest
from PIL import Image

from helpers.planted import many_scans
from helpers.serving_photos import LIMITS, colour_model, photo
from regraft.deployment.classifier import Classifier
from regraft.deployment.serve.app import make_app
from regraft.deployment.serve.limits import Hosts
from regraft.deployment.serve.worker import PredictionWorker

FORM = {"content-type": "multipart/form-data; boundary=x"}


def test_photos_are_answered_in_their_order_with_probabilities(ask):
    files = [("photos", (f"{colour}.png", photo(colour))) for colour in ("blue", "red")]
    answers = ask("POST", "/predict", files=files).json()["predictions"]
    assert [(answer["name"], answer["class_name"]) for answer in answers] == [("blue.png", "blue"), ("red.png", "red")]
    assert sum(guess["probability"] for guess in answers[0]["top"]) == pytest.approx(1)
    assert answers[0]["confidence"] == answers[0]["top"][0]["probability"]


def test_a_bad_photo_among_good_ones_has_an_error_of_its_own(ask):
    files = [("photos", ("a.jpg", b"text")), ("photos", ("b.png", photo("green")))]
    answer = ask("POST", "/predict", files=files)
    assert answer.status_code == 200
    bad, good = answer.json()["predictions"]
    assert bad["error"].startswith("The file can't be read as a photo")
    assert (good["class_name"], good["error"]) == ("green", None)


@pytest.mark.parametrize(
    ("content", "status", "sentence"),
    [
        (b"", 400, "The file is empty."),
        (b"a text renamed", 415, "can't be read as a photo: it is not an image"),
        (photo()[:50], 415, "can't be read as a photo"),
        (photo(size=(200, 100)), 413, r"too large: it has 0.02 megapixels; allowed: 0.01"),
        (b"x" * 300_000, 413, "The request is too large; allowed: 0.2 MB in all."),
    ],
    ids=["empty", "text", "truncated", "pixels", "bytes"],
)
def test_what_is_no_photo_is_refused_in_a_sentence(ask, content, status, sentence):
    answer = ask("POST", "/predict", files={"photos": ("../../etc/photo.jpg", content)})
    assert answer.status_code == status
    assert re.search(sentence, answer.json()["detail"])
    assert "/" not in answer.json()["detail"]


def test_a_body_without_a_length_is_counted_while_it_comes(ask):
    sent = []

    async def endless():
        yield b'--x\r\nContent-Disposition: form-data; name="photos"; filename="a"\r\n\r\n'
        while True:
            sent.append(1)
            yield b"x" * 10_000

    answer = ask("POST", "/predict", content=endless(), headers=FORM)
    assert answer.status_code == 413
    assert len(sent) < 250  # ten times what is allowed: then it is broken off


def test_a_request_that_is_refused_is_heard_to_its_end(ask):
    """Whoever sends with Python's urllib or requests would see a broken connection and no answer."""
    sent = []

    async def parts():
        for _ in range(50):
            sent.append(1)
            yield b"x" * 10_000

    answer = ask("POST", "/predict", content=parts(), headers=FORM | {"content-length": "500000"})
    assert (answer.status_code, len(sent)) == (413, 50)


async def answer_of(app, receive) -> list[dict]:
    """Returns what a client is sent whose body comes from a function."""
    headers = [(b"host", b"127.0.0.1"), (b"content-type", FORM["content-type"].encode())]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers, "query_string": b""}
    sent = []

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent


def test_a_client_that_goes_away_is_no_error_of_the_server(app):
    async def gone():
        return {"type": "http.disconnect"}

    assert asyncio.run(answer_of(app, gone))[0]["status"] == 400


def test_what_is_under_way_when_the_server_ends_is_told(app):
    async def ended():
        task = asyncio.create_task(answer_of(app, asyncio.Event().wait))
        await asyncio.sleep(0.01)
        task.cancel()
        return await task

    answer, body = asyncio.run(ended())
    assert answer["status"] == 503
    assert b"The server is shutting down." in body["body"]


def test_a_photo_without_memory_is_turned_away(ask, monkeypatch):
    def fail(*given):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes.")

    monkeypatch.setattr("regraft.deployment.classifier.Classifier.view", fail)
    answer = ask("POST", "/predict", files={"photos": ("a.png", photo())})
    assert answer.status_code == 503
    assert "The server is out of memory" in answer.json()["detail"]


def test_a_strip_of_pixels_is_answered_by_its_middle():
    # Resized whole, its shorter side to that of the model, it would take gigabytes.
    strip = photo("blue", (6_000_000, 1))
    worker = PredictionWorker(colour_model(), 6_000_000, 30.0)
    (answer,) = asyncio.run(worker.predict([("strip.png", io.BytesIO(strip))]))
    worker.close()
    assert answer.class_name == "blue"


def test_a_photo_that_costs_too_much_is_refused_and_the_next_one_is_not(ask):
    answer = ask("POST", "/predict", files={"photos": ("a.jpg", many_scans(400))})
    assert answer.status_code == 413
    assert "too long to decode: it is a JPEG of 64 x 64 pixels in more than 100 scans" in answer.json()["detail"]
    assert ask("POST", "/predict", files={"photos": ("a.png", photo())}).status_code == 200


def test_a_transparent_photo_is_drawn_on_the_runs_background():
    model = replace(colour_model(), input_spec=replace(colour_model().input_spec, background="blue"))
    clear = io.BytesIO()
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(clear, "PNG")
    worker = PredictionWorker(model, 10_000, 30.0)
    (answer,) = asyncio.run(worker.predict([("clear.png", io.BytesIO(clear.getvalue()))]))
    worker.close()
    assert answer.class_name == "blue"


def test_a_program_that_draws_is_not_run(ask):
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    answer = ask("POST", "/predict", files={"photos": ("a.jpg", program)})
    assert answer.status_code == 415
    assert "isn't run" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "sentence"),
    [
        ("GET", "/predict", {}, 405, "GET isn't allowed here; allowed: POST."),
        ("GET", "/nowhere", {}, 404, "There is no such page"),
        ("POST", "/predict", {"json": {}}, 415, "multipart/form-data"),
        ("POST", "/predict", {"files": {"a": (None, "b")}}, 400, "No photo was sent"),
        ("POST", "/predict", {"files": [("photos", ("a", b"b"))] * 4}, 413, "Too many photos at once; allowed: 3."),
        ("POST", "/predict", {"headers": FORM, "content": b"y"}, 400, "The form can't be read"),
        ("POST", "/predict", {"headers": {"sec-fetch-site": "cross-site"}}, 403, "Pages of other sites"),
        ("POST", "/predict", {"headers": {"content-length": "9" * 30}}, 413, "too large"),
    ],
)
def test_a_wrong_request_is_refused_in_a_sentence(ask, method, path, options, status, sentence):
    answer = ask(method, path, **options)
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]


def test_other_names_than_its_own_are_turned_away(ask):
    assert ask("GET", "/health", headers={"host": "evil.example"}).status_code == 400
    assert ask("GET", "/health").json()["class_names"] == ["red", "green", "blue"]


def test_an_upload_that_takes_too_long_is_ended(app, ask, monkeypatch):
    async def slow():
        await asyncio.sleep(60)
        yield b""

    monkeypatch.setattr(
        "regraft.deployment.serve.photos.asyncio.timeout", lambda seconds: asyncio.timeouts.timeout(0.01)
    )
    answer = ask("POST", "/predict", content=slow(), headers=FORM)
    assert answer.status_code == 408


def test_more_requests_than_may_wait_are_turned_away_and_later_ones_are_not(app, monkeypatch):
    is_let_go = threading.Event()
    answered = Classifier.probabilities
    monkeypatch.setattr(Classifier, "probabilities", lambda *given: is_let_go.wait(10) and answered(*given))

    async def sent():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:

            async def one():
                return (await client.post("/predict", files={"photos": ("a.png", photo())})).status_code

            first = [asyncio.create_task(one()) for _ in range(20)]
            while sum(task.done() for task in first) < 18:
                await asyncio.sleep(0.01)
            health = (await client.get("/health")).status_code
            is_let_go.set()
            return await asyncio.gather(*first), health, await one()

    first, health, later = asyncio.run(sent())
    assert sorted(first) == [200] * 2 + [503] * 18
    assert (health, later) == (200, 200)


def test_what_nobody_foresaw_says_nothing_of_the_machine(ask, monkeypatch):
    monkeypatch.setattr(Classifier, "probabilities", lambda *given: 1 / 0)
    answer = ask("POST", "/predict", files={"photos": ("a.png", photo())})
    assert answer.status_code == 500
    assert answer.json() == {"detail": "Something went wrong in the server; its log says what."}


@pytest.mark.parametrize("path", ["/", "/docs", "/style.css", "/page.js", "/openapi.json"])
def test_pages_need_nothing_from_elsewhere(ask, path):
    answer = ask("GET", path)
    assert answer.status_code == 200
    assert not re.findall(r"""(?:src|href)=["'](?!/|data:)|https?://|@import""", answer.text)
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert "access-control-allow-origin" not in answer.headers


def test_the_description_has_the_form_and_what_is_refused(ask):
    described = ask("GET", "/openapi.json").json()["paths"]["/predict"]["post"]
    assert "multipart/form-data" in described["requestBody"]["content"]
    assert {"400", "408", "413", "415", "503"} <= set(described["responses"])


def test_class_names_are_text_on_the_page():
    model = replace(colour_model(), class_names=("<script>", "b", "c"))
    odd = make_app(model, run="1", version="1", limits=LIMITS, hosts=Hosts(["127.0.0.1"], takes_addresses=False))

    async def page():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(odd), base_url="http://127.0.0.1") as client:
            return (await client.get("/")).text

    assert "&lt;script&gt;" in asyncio.run(page())
