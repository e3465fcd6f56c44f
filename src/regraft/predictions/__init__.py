"""What a run's final test said of each image: kept in the run's folder, read again to compare runs image by image."""
