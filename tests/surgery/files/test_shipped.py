"""What ships with the project is found beside the package."""

from surgery.files import shipped_folder


def test_every_folder_of_assets_is_there():
    assert (shipped_folder("demo") / "kinship" / "adapter_config.json").is_file()
    assert any(shipped_folder("paper").iterdir())
    assert any(shipped_folder("sweeps").glob("*.yaml"))
