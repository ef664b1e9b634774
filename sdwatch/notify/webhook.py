"""POST a message to a webhook. Runs in the process of `__main__`, which is killed if this hangs."""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
from pathlib import Path
from typing import Any
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3 import exceptions

from sdwatch.notify.delivery import Delivery, Receipt
from sdwatch.system.http_parts import auth_in, headers_for, trusting

_LIMIT = 10.0  # seconds to connect, and for each part of the answer


def post(url: str, body: dict[str, Any]) -> Delivery:
    """Send it. Only the status of the answer is read: a webhook may send any amount after that.

    A redirect is not followed: most turn the POST into a GET without the message, and the address
    that a person wrote is the only one that is to get it.
    """
    try:
        place = urllib3.util.parse_url(url)._replace(auth=None, fragment=None)
        about = {"content-type": "application/json", "user-agent": "sdwatch"}
        with _pools(place).urlopen(
            "POST",
            place.url,
            body=json.dumps(body).encode(),
            headers={**headers_for(url), **about},
            timeout=_LIMIT,
            redirect=False,
            retries=False,
            preload_content=False,
        ) as answer:
            status = answer.status
    except (exceptions.HTTPError, ValueError, OSError) as error:
        return Delivery(_result_of(error))
    if 300 <= status < 400:
        return Delivery(Receipt.REDIRECTED, status)
    return Delivery(Receipt.SENT if status < 300 else Receipt.REFUSED, status)


def _pools(place: urllib3.util.Url) -> urllib3.PoolManager:
    """Return what connects to it, through the proxy and by the authorities of the environment."""
    proxy = _proxy_of(place)
    context = None
    if place.scheme == "https" or (proxy or "").lower().startswith("https:"):
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
        context = trusting(Path(bundle) if bundle else None)
    if proxy is None:
        return urllib3.PoolManager(ssl_context=context)
    if proxy.lower().startswith("socks"):
        from urllib3.contrib.socks import SOCKSProxyManager  # needs PySocks

        return SOCKSProxyManager(proxy, ssl_context=context)
    headers = urllib3.make_headers(proxy_basic_auth=auth_in(proxy))
    return urllib3.ProxyManager(
        proxy, proxy_headers=headers, proxy_ssl_context=context, ssl_context=context
    )


def _proxy_of(place: urllib3.util.Url) -> str | None:
    """Return the URL of the proxy to it, or None."""
    proxies, host = getproxies(), (place.host or "").strip("[]")
    proxy = proxies.get(place.scheme or "") or proxies.get("all")
    is_excepted = (
        proxy_bypass(host)
        or proxy_bypass(f"{host}:{place.port}")
        or any(_is_in(host, each.strip()) for each in proxies.get("no", "").split(","))
    )
    if not proxy or is_excepted:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_in(host: str, network: str) -> bool:
    """Return whether the host is an address in a network, such as 10.0.0.0/8."""
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _result_of(error: Exception) -> Receipt:
    kinds: tuple[tuple[type[Exception], Receipt], ...] = (
        (exceptions.ProxyError, Receipt.PROXY),
        (exceptions.SSLError, Receipt.TLS),
        (ssl.SSLError, Receipt.TLS),  # REQUESTS_CA_BUNDLE has no certificate
        (exceptions.NewConnectionError, Receipt.UNREACHABLE),  # before its base, TimeoutError
        (exceptions.TimeoutError, Receipt.TIMED_OUT),
        (exceptions.ProtocolError, Receipt.UNREACHABLE),
    )
    return next((result for kind, result in kinds if isinstance(error, kind)), Receipt.FAILED)
