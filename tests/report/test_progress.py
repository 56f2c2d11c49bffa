import logging

from maekit.report.progress import TrainDisplay, counting, print_table


def test_train_display__logs_where_there_is_no_terminal(caplog):
    caplog.set_level(logging.INFO)
    speed = {"images_per_s": 120.0, "data_wait": 0.25, "seconds_left": 3725.0}
    with TrainDisplay(num_steps=100, num_epochs=10, start=0) as display:
        display.update(15, 1.5, "loss 0.8000", speed)
        display.update(16, 1.6, "loss 0.8000", speed)  # too soon after the first
    assert caplog.messages == [
        "epoch 2/10  step 15/100  loss 0.8000  120 images/s  1 h 02 min left  data wait 25%"
    ]


def test_counting__tells_without_a_terminal():
    with counting("Scanning") as tell:
        tell(1, 2)


def test_print_table__on_standard_output(capsys):
    print_table("numbers", ("name", "value"), [("one", "1")])
    printed = capsys.readouterr().out
    assert "numbers" in printed
    assert "one" in printed
