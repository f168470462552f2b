"""Tuneyard: finetune GPT-OSS on your own chats and serve it from your own Ray cluster.

The library under the rooms `jobs`, `serve_apps` and `ui`. Importing it loads neither torch nor ray.
"""

__version__ = "0.1.0"
