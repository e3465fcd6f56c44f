"""The frozen part, computed once and kept: from a backbone's weights to what a training reads in the place of images.

Where to start reading: `frozen`, which holds it together. Below it, in the order in which a run meets them:

    settings   what the user has chosen
    key        the hash of what frozen stages compute
    rows       what a row depends on, where it lies, what computes it
    plan       where to cut in each phase, and whether that pays
    prefix     the frozen stages made fast; folding: their BatchNorms
    shelf      the pools that a run has opened, on the disk or in memory
    pool       rows of one key by their images' content; segments, files: how they lie on the disk; memory: in memory
    catalog    all pools of the store, and which go when there is no room
    fill       computes what is missing, once for all processes
    table      the rows of a split; loaders, datamodule: what Lightning is given
    pictures   the same for a prediction's pictures; pixels: decoded images in the same store
"""
