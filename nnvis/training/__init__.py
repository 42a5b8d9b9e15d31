"""Training: the loop and what it is made of, from devices to checkpoints.

    learner = build_learner(config, splits)       # setup: model, objective, optimizer, schedule, number format
    Loop(learner, ...).run()                      # loop; `nnvis.experiment` puts the rest together

Each file has one subject, and says so in its first line; whoever needs one imports it alone.
"""
