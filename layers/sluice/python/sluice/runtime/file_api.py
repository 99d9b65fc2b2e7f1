"""The composition root of the routes of files and uploads."""

from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_files import DynamoDBFiles
from sluice.adapters.s3_compose import S3Composer
from sluice.adapters.s3_files import S3Files
from sluice.adapters.s3_ranges import S3Ranges
from sluice.domain.ports import FileContents, FileStore
from sluice.runtime.clients import client
from sluice.runtime.settings import FileSettings
from sluice.services.files import Files
from sluice.services.uploads import Uploads


def files(settings: FileSettings) -> Files:
    """Keeping files for callers."""
    return Files(store=_store(settings), contents=_contents(settings), ttl_days=settings.file_ttl_days)


def uploads(settings: FileSettings, *, upload_ttl_s: int) -> Uploads:
    """Taking files in parts."""
    s3 = client("s3")
    return Uploads(
        store=_store(settings),
        contents=_contents(settings),
        ranges=S3Ranges(s3, settings.bucket_name),
        composer=S3Composer(s3, settings.bucket_name),
        most_bytes=settings.max_file_bytes,
        ttl_s=upload_ttl_s,
        file_ttl_days=settings.file_ttl_days,
    )


def _store(settings: FileSettings) -> FileStore:
    return DynamoDBFiles(Table(client("dynamodb"), settings.table_name))


def _contents(settings: FileSettings) -> FileContents:
    s3, elsewhere = client("s3"), settings.presign_endpoint_url
    return S3Files(
        s3,
        settings.bucket_name,
        signer=client("s3", endpoint_url=elsewhere) if elsewhere else s3,
        url_s=settings.presign_seconds,
    )
