"""Where recordings and tables lie: folders of this machine and object stores, by path or URI."""
