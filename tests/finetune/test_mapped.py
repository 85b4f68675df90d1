import os
import tempfile

import numpy as np

from cp2fast.finetune.mapped import mapped


def test_all_room_on_the_disk_is_taken_at_once() -> None:
    with tempfile.TemporaryFile() as file:
        array = mapped(file, np.float16, (3, 500, 700))
        assert os.fstat(file.fileno()).st_blocks * 512 >= array.nbytes
        assert array.shape == (3, 500, 700)
        assert not array.any()
