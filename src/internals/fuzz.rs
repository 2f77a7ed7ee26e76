//! What the fuzz targets feed with bytes of any kind.
