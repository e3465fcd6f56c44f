"""Features of frozen stages, computed once and stored: from a backbone's weights to what training reads.

settings      the user's options
fingerprint   hash of what frozen stages compute
extractor     the frozen stages, made fast; batchnorm_folding: their BatchNorms
cut           where a backbone is cut in each phase, and whether that pays
cache         features of a data set's splits: start reading here
record        what is stored for each input, and which of it a head reads
extract       computes missing features, once for all processes
share         a part of a data set's inputs; filling: stores the features of a share, before any training
table         features of one split; loaders, datamodule: what Lightning is given
lookup        features of images that come a few at a time; image_cache: decoded images in the same store
store/        entries on disk and in memory, their files, and their eviction
"""
