"""train_squad for the tests of a sweep: as quick_ptb is train_ptb."""

import sys

from quick_ptb import slow

from issref import train_squad
from issref.squad import console as squad_show
from issref.squad import evaluation as squad_result

parse, load_corpus, model_config = train_squad.parse, train_squad.load_corpus, train_squad.model_config


def main(arguments):
    squad_result.draw, squad_show.step = lambda *_: None, slow(squad_show.step)
    return train_squad.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
