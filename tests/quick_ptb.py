"""train_ptb for the tests of a sweep: without figures, and with a pause of $PAUSE seconds after each step, so that
it can be interrupted."""

import os
import sys
import time

from issref import train_ptb
from issref.ptb import console as show
from issref.ptb import evaluation as result

parse, load_corpus, model_config = train_ptb.parse, train_ptb.load_corpus, train_ptb.model_config


def slow(step):
    def slow_step(*arguments):
        step(*arguments)
        time.sleep(float(os.environ.get("PAUSE", "0")))

    return slow_step


def main(arguments):
    result.draw, show.step = lambda *_: None, slow(show.step)
    return train_ptb.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
