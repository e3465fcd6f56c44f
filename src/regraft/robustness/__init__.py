"""How a classifier stands corrupted images: the common-corruptions protocol of Hendrycks & Dietterich (ICLR 2019)."""
