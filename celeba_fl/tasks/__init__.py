"""One file a task; see `celeba_fl.task` for what a task is."""
