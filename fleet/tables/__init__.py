"""The tables that a fleet's recordings become: their columns, and the Parquet files that hold them."""
