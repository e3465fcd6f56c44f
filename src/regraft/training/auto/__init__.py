"""The choice of a backbone and an image size by heads in closed form on stored features.

choice       a candidate before it is built
candidates   a backbone at an image size, and its features of the images that a head is fitted on
scores       how good a head on them is, by leaving images out, and whether two differ by more than chance
ranking      all candidates on all images: `regraft rank`
decisions    what a search does next, by what it has measured
baseline     the run that other candidates have to beat
search       candidates on more and more images, as the time allows: `regraft auto`
"""
