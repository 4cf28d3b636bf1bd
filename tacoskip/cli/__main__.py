from tacoskip.cli import main

main()
