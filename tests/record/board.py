"""A TensorBoard with one plugin more, which shows what any plugin would get of nnvis's own tensors.

python board.py LOGDIR --load_fast=true    # prints its address; GET /data/plugin/nnvis/tensors?run=...
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from tensorboard import context, default, program
from tensorboard.backend import http_util
from tensorboard.data.provider import RunTagFilter
from tensorboard.plugins.base_plugin import TBLoader, TBPlugin
from werkzeug import wrappers


class Tensors(TBPlugin):
    """Answers with the content, the steps and the bytes of every tensor of a run."""

    plugin_name = "nnvis"

    def __init__(self, plugin_context: Any) -> None:
        self.provider = plugin_context.data_provider

    def get_plugin_apps(self) -> dict[str, Any]:
        return {"/tensors": wrappers.Request.application(self.tensors)}

    def is_active(self) -> bool:
        return False

    def tensors(self, request: wrappers.Request) -> wrappers.Response:
        run = request.args["run"]
        query = {"ctx": context.RequestContext(), "experiment_id": "", "plugin_name": self.plugin_name}
        listed = self.provider.list_tensors(**query).get(run, {})
        read = self.provider.read_tensors(**query, downsample=10**6, run_tag_filter=RunTagFilter(runs=[run]))
        answer = {
            tag: {
                "content": json.loads(listed[tag].plugin_content),
                "steps": [datum.step for datum in data],
                "data_type": str(data[0].numpy.dtype),
                "hex": [datum.numpy.tobytes().hex() for datum in data if datum.numpy.dtype != object],
                "text": [datum.numpy.item().decode() for datum in data if datum.numpy.dtype == object],
            }
            for tag, data in read.get(run, {}).items()
        }
        return http_util.Respond(request, answer, "application/json")


class Loader(TBLoader):
    """Adds the plugin."""

    def define_flags(self, parser: Any) -> None:
        pass

    def load(self, context: Any) -> TBPlugin:
        return Tensors(context)


if __name__ == "__main__":
    board = program.TensorBoard(plugins=[*default.get_static_plugins(), Loader()])
    options = ["--host=127.0.0.1", "--port=0", "--reload_interval=1", "--samples_per_plugin=nnvis=0"]
    board.configure([sys.argv[0], f"--logdir={sys.argv[1]}", *sys.argv[2:], *options])
    print(board.launch(), flush=True)
    threading.Event().wait()
