"""requests against the address in argv: kept connections, uploads with and without length, streams, redirects off."""
import sys

import requests

base = sys.argv[1]
with requests.Session() as session:
    for number in range(50):
        answer = session.get(f"{base}/get/{number}?a=b", timeout=10)
        assert answer.status_code == 200 and answer.json()["url"] == f"/get/{number}?a=b", answer.text
    answer = session.post(f"{base}/post", data=b"x" * 300_000, timeout=10)
    assert answer.json()["bytes"] == 300_000, answer.text
    answer = session.post(f"{base}/chunks", data=(b"y" * 1000 for _ in range(100)), timeout=10)
    assert answer.json()["bytes"] == 100_000, answer.text
    assert session.head(f"{base}/head", timeout=10).status_code == 200
    assert session.put(f"{base}/put", json={"a": 1}, timeout=10).json()["method"] == "PUT"
    with session.get(f"{base}/big", stream=True, timeout=10) as answer:
        assert sum(len(piece) for piece in answer.iter_content(8192)) == 1_000_000
print("all good")
