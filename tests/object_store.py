"""A real object store on the loopback interface: SeaweedFS, which checks keys and keeps its data over a restart."""

from __future__ import annotations

import json
import os
import socket
import sysconfig
from pathlib import Path
from types import TracebackType

import pyarrow.fs as pafs

from tests.server_process import ServerProcess
from tuneyard.storage.folder import StorageFolder

BUCKET = "bucket"
KEY, SECRET = "tuneyard", "not-a-secret"
PORTS = ("s3.port", "master.port", "volume.port", "filer.port", "admin.port")


class ObjectStore(ServerProcess):
    """A server with one bucket, whose data is in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._ports = _free_ports(2 * len(PORTS))
        (folder / "data").mkdir(parents=True)
        identity = {
            "name": "test",
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which a process reaches the store as s3://bucket/…"""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._ports[0]}",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        for port in self._ports:
            for leftover in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                leftover.unlink(missing_ok=True)

    def start(self) -> None:
        """Starts the server, with the data of an earlier start; returns when it answers."""
        weed = Path(sysconfig.get_path("scripts")) / "weed"
        names = [name for port in PORTS for name in (port, f"{port}.grpc")]
        command = [
            *(str(weed), "-logtostderr", "mini", f"-dir={self.folder / 'data'}", f"-bucket={BUCKET}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={self.folder / 's3.json'}"),
            *("-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *("-master.telemetry=false", "-s3.autoCreateBucket=false"),
            *(f"-{name}={port}" for name, port in zip(names, self._ports, strict=True)),
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_"))}
        self.run(command, env=environment | {"GOMEMLIMIT": "256MiB"})

    def answers(self) -> bool:
        filesystem = pafs.S3FileSystem(
            access_key=KEY,
            secret_key=SECRET,
            scheme="http",
            region="us-east-1",
            endpoint_override=f"127.0.0.1:{self._ports[0]}",
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=1),
        )
        try:
            return bool(filesystem.get_file_info(BUCKET).type == pafs.FileType.Directory)
        except OSError:
            return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [bound.getsockname()[1] for bound in sockets]
    finally:
        for bound in sockets:
            bound.close()


def store_folder(name: str) -> StorageFolder:
    """The folder `name` in the bucket. The process must have the store's environment variables."""
    return StorageFolder.open(f"s3://{BUCKET}/{name}")
