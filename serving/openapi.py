"""`/openapi.json` and `/docs`: written from the routes by FastAPI, which is imported when somebody first asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from serving.http import JSON, Answer, Call, Endpoint, Route
from serving.wire import ErrorResponse
from undertone import __version__
from undertone.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

#: What each error status means, wherever it stands.
MEANING = {
    400: "The body is not JSON.",
    401: "No API key, or one that is not known.",
    404: "No such model or page.",
    405: "The page does not take this method.",
    408: "The body did not arrive in time.",
    413: "Too many messages, or too many bytes.",
    415: "The body is of a media type that the page does not take.",
    422: "A message is not as described; nothing was scored.",
    429: "More requests than this key may send; `Retry-After` says when to come again.",
    500: "A model failed on this request; nothing of it was answered or kept.",
    503: "No approved model, too many messages waiting, or a full disk; `Retry-After` says when to come again.",
}


def describe(routes: Sequence[Route], settings: Settings) -> FastAPI:
    """An application whose OpenAPI document speaks of `routes`. It answers nothing itself."""
    from fastapi import FastAPI

    app = FastAPI(
        title="Undertone",
        version=__version__,
        description=(
            "Scores customer messages with the approved classifiers. "
            f"At most {settings.max_messages:,} messages and {settings.max_body_bytes:,} bytes in one request; texts "
            f"are read up to {settings.max_text_chars:,} characters. A request is scored whole or not at all: where "
            "one message is not as described, the answer is 422 and names it. Every error says what was expected, "
            "what was found and what to do next."
        ),
    )
    schemas: dict[str, Any] = {}
    for route in routes:
        app.add_api_route(
            route.path,
            _named(route),
            methods=[route.method],
            summary=route.summary,
            description=route.description or None,
            response_model=route.response,
            responses={
                200: {"description": "OK", **({} if route.response else {"content": {route.media_type: {}}})},
                **{
                    route.form.statuses.get(status, status): {
                        "model": route.form.model or ErrorResponse,
                        "description": MEANING[status],
                    }
                    for status in (*route.errors, *(() if route.open else (401, 429)))
                },
            },
            openapi_extra=_body(route, schemas) | _parameters(route),
        )
    document = app.openapi()
    document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
    return app


def pages(routes: Callable[[], Sequence[Route]], settings: Settings) -> tuple[Endpoint, Endpoint]:
    """The endpoints of `/openapi.json` and of `/docs`."""

    @lru_cache(maxsize=1)
    def documents() -> tuple[bytes, bytes]:
        import orjson
        from fastapi.openapi.docs import get_swagger_ui_html

        app = describe(routes(), settings)
        page = get_swagger_ui_html(openapi_url="/openapi.json", title="Undertone")
        return orjson.dumps(app.openapi()), bytes(page.body)

    async def document(call: Call) -> Answer:
        return Answer(body=(await asyncio.to_thread(documents))[0])

    async def page(call: Call) -> Answer:
        return Answer(body=(await asyncio.to_thread(documents))[1], media_type="text/html; charset=utf-8")

    return document, page


def _named(route: Route) -> Callable[[], None]:
    """A function that FastAPI takes the operation's name from."""

    def operation() -> None:
        """Answered by `serving.gateway`."""

    words = [route.method.lower(), *route.path.replace("{", "").replace("}", "").strip("/").split("/")]
    operation.__name__ = "_".join(word.replace(".", "_").replace("-", "_") for word in words)
    return operation


def _body(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    if not route.request:
        return {}
    references = []
    for model in route.request:
        made = model.model_json_schema(ref_template="#/components/schemas/{model}", by_alias=False)
        schemas.update(made.pop("$defs", {}))
        schemas[model.__name__] = made
        references.append({"$ref": f"#/components/schemas/{model.__name__}"})
    described: dict[str, Any] = {"schema": references[0] if len(references) == 1 else {"anyOf": references}}
    if route.example is not None:
        described["example"] = route.example
    content = {kind: described if kind == JSON else {"schema": {"type": "string"}} for kind in route.takes}
    return {"requestBody": {"required": True, "content": content}}


def _parameters(route: Route) -> dict[str, Any]:
    told = {parameter["name"] for parameter in route.parameters}
    names = [part[1:-1] for part in route.path.split("/") if part.startswith("{") and part[1:-1] not in told]
    return {
        "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
        + list(route.parameters)
    }
