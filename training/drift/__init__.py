"""The nightly verdict on the model in production: drift, unknown values, outliers, live quality."""
