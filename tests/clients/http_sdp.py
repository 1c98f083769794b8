"""WHIP (RFC 9725) and WHEP over plain HTTP."""

import urllib.request
from dataclasses import dataclass
from urllib.parse import urljoin


@dataclass
class Resource:
    url: str
    etag: str
    answer: str

    def delete(self) -> int:
        return urllib.request.urlopen(urllib.request.Request(self.url, method="DELETE"), timeout=10).status


def post_offer(url: str, offer: str) -> Resource:
    """Posts an offer; raises urllib.error.HTTPError when it is refused."""
    request = urllib.request.Request(url, offer.encode(), {"Content-Type": "application/sdp"}, method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.status == 201, response.status
        assert response.headers["Content-Type"] == "application/sdp", response.headers["Content-Type"]
        return Resource(urljoin(url, response.headers["Location"]), response.headers["ETag"], response.read().decode())
