"""The data sets, one module each: where their files are, and how their labels map to classes and anomalies."""
