"""What must outlive the process: call records and the count of wrong PINs, behind one port."""
