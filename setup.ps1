# Sets up .venv on Windows, where there is no make. In PowerShell, in the repository's folder:
#   .\setup.ps1
# If scripts are not allowed:  powershell -ExecutionPolicy Bypass -File .\setup.ps1
# A second call finds the work done. -Python names another interpreter, -Force installs anew.
param(
    [string]$Python = "python",
    [switch]$Force
)
$ErrorActionPreference = "Stop"
Set-Location $PSScriptRoot

function Invoke-Checked {
    param([string]$Program, [string[]]$Arguments)
    & $Program @Arguments
    if ($LASTEXITCODE -ne 0) { throw "$Program $($Arguments -join ' ') failed with code $LASTEXITCODE" }
}

$stamp = ".venv\.installed"
$inputs = "requirements.lock", "requirements-torch.txt", "pyproject.toml"
if ((Test-Path $stamp) -and -not $Force) {
    $installed = (Get-Item $stamp -Force).LastWriteTime
    if (-not ($inputs | Where-Object { (Get-Item $_).LastWriteTime -gt $installed })) {
        Write-Host "Already set up. Activate with  .venv\Scripts\Activate.ps1"
        exit 0
    }
}

Invoke-Checked $Python @("-c", "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed')")
Invoke-Checked $Python @("-m", "venv", ".venv")
$pip = @("-m", "pip", "install", "--disable-pip-version-check", "--quiet")
$venv = ".venv\Scripts\python.exe"
# The same three steps as in the Makefile, which says why.
Invoke-Checked $venv ($pip + @("--no-deps", "--require-hashes", "-r", "requirements.lock"))
Invoke-Checked $venv ($pip + @("--no-warn-conflicts", "-r", "requirements-torch.txt"))
Invoke-Checked $venv ($pip + @("--no-deps", "--no-build-isolation", "-e", "."))
New-Item -ItemType File -Path $stamp -Force | Out-Null
Write-Host "Done. Activate with  .venv\Scripts\Activate.ps1"
