"""A model's name on disk tells it from its neighbours, however long it is."""

from qroar_core.disk_name import disk_name


def test_a_name_that_fits_keeps_all_of_itself():
    assert disk_name("org/name", 60) == "org--name"
    assert disk_name("demo", 4) == "demo"


def test_a_long_name_keeps_its_owner_and_its_quantization():
    names = [f"somebody/{'Long-' * 20}GGUF/{'Long-' * 20}{quant}" for quant in ("Q4_K_M", "Q8_0")]
    short = [disk_name(name, 60) for name in names]
    assert [len(name) for name in short] == [60, 60]
    assert len(set(short)) == 2
    assert all(name.startswith("somebody--Long-") for name in short)
    assert [name[-6:] for name in short] == ["Q4_K_M", "g-Q8_0"]
