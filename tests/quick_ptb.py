"""train_ptb for the tests of a sweep: without figures, and with a pause of $PAUSE seconds after each step, so that
it can be interrupted."""

import os
import sys
import time

from issref import report, train_ptb
from issref.training import console

parse, load_corpus, model_config = train_ptb.parse, train_ptb.load_corpus, train_ptb.model_config


def slow(advance):
    def slow_advance(*arguments):
        advance(*arguments)
        time.sleep(float(os.environ.get("PAUSE", "0")))

    return slow_advance


def quick(main, arguments):
    report.draw_run, console.advance = lambda *_: [], slow(console.advance)
    return main(arguments)


def main(arguments):
    return quick(train_ptb.main, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
