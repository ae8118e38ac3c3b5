"""Headless Chromium for the tests of pages; they are skipped where it is not installed."""

import shutil
import subprocess

import pytest


def chromium(folder, *arguments):
    """Run the browser with a new profile in a folder."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("Chromium is not installed")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    flags += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000"]
    return subprocess.run([browser, *flags, *arguments], check=True, capture_output=True, text=True, timeout=200)
