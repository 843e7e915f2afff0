"""What pyrkt keeps: blobs by their digest, unpacked trees, and one record an image. Plain files, no database."""

from pyrkt.store.blobs import Blobs, BlobWriter
from pyrkt.store.index import ImageRecord, Images, Signer
from pyrkt.store.layout import Store
from pyrkt.store.rootfs import Rootfs
from pyrkt.store.trees import Trees

__all__ = ["BlobWriter", "Blobs", "ImageRecord", "Images", "Rootfs", "Signer", "Store", "Trees"]
