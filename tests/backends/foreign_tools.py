"""An MCP server that knows nothing of this library, as a command. With `http` and a port it serves over HTTP."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, ImageContent, TextContent, ToolAnnotations

server = MCPServer("foreign")


@server.tool()
def shout(text: str, times: int = 1) -> str:
    """The text, louder."""
    return text.upper() * times


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def facts(of: str) -> dict[str, Any]:
    return {"of": of, "size": 3}


@server.tool(structured_output=False)
def plainly(text: str) -> str:
    """Text without any structure."""
    return text


@server.tool()
def picture() -> CallToolResult:
    image = ImageContent(data="aGk=", mime_type="image/png")
    return CallToolResult(content=[TextContent(text="a picture"), image])


@server.tool()
def fail(text: str) -> str:
    raise ToolError(text)


@server.tool()
def die() -> str:
    """End the server in the middle of the call."""
    os._exit(3)


@server.tool()
def hold(folder: str) -> str:
    """Say who this is, then wait for the word to go on."""
    begun = Path(folder, "begun")
    begun.with_suffix(".new").write_text(str(os.getpid()))
    begun.with_suffix(".new").rename(begun)
    while not Path(folder, "go").exists():
        time.sleep(0.002)
    return "done"


if __name__ == "__main__":
    if sys.argv[1:2] == ["http"]:
        server.run("streamable-http", port=int(sys.argv[2]))
    else:
        server.run()
