"""What runs measured, as Parquet tables."""
