"""Image encoders: built from a seed or from weights, stored without code, named by a fingerprint; and embeddings."""

from tamis.encoders.brought import load_embeddings
from tamis.encoders.encoder import Encoder, build_encoder, encoder_bytes, fingerprint, with_views
from tamis.encoders.files import load_encoder
from tamis.encoders.inference import Embedder, embed
from tamis.encoders.pretrained import pretrained
from tamis.encoders.spec import ARCHITECTURES, EncoderSpec, choose_spec, to_pixels

__all__ = [
    "ARCHITECTURES",
    "Embedder",
    "Encoder",
    "EncoderSpec",
    "build_encoder",
    "choose_spec",
    "embed",
    "encoder_bytes",
    "fingerprint",
    "load_embeddings",
    "load_encoder",
    "pretrained",
    "to_pixels",
    "with_views",
]
