"""train_squad for the tests of a sweep: as quick_ptb is train_ptb."""

import sys

from quick_ptb import quick

from issref import train_squad

parse, load_corpus, model_config = train_squad.parse, train_squad.load_corpus, train_squad.model_config


def main(arguments):
    return quick(train_squad.main, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
